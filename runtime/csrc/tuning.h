/* What makes a snapshot faster and depends on one version of Python: tuning_313.c for 3.13, and so on. A version without such a file is
 * linked with tuning_none.c and has a snapshot all the same. */
#pragma once

void tuning_prepare(void); /* called when everything is imported, before the interpreter practises (train.py) */
void tuning_finish(void);  /* called after that, right before the snapshot is written */
