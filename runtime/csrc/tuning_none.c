/* For versions of Python that have no tuning_XY.c. */
#include "tuning.h"

void tuning_prepare(void)
{
}

void tuning_finish(void)
{
}
