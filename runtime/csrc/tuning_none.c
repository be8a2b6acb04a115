/* For versions of Python without a tuning_XY.c. */
#include "tuning.h"

void tuning_prepare(void)
{
}

void tuning_finish(void)
{
}
