/* For versions of Python without a tuning_XY.c. */
#include <Python.h>

#include "tuning.h"

void tuning_prepare(void)
{
}

void tuning_finish(void)
{
}
