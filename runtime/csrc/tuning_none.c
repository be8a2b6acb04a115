/* For versions of Python without a tuning_XY.c. */
#include <Python.h>

#include "tuning.h"

void tuning_prepare(void)
{
}

int tuning_written(char **Py_UNUSED(start), char **Py_UNUSED(end))
{
    return 0;
}

void tuning_finish(void)
{
}
