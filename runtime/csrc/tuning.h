/* What makes a snapshot faster and depends on one version of Python: tuning_313.c for 3.13, and so
 * on. A version without such a file is linked with tuning_none.c and also has a snapshot. */
#pragma once

void tuning_prepare(void); /* called when everything is imported, before the training (train.py) */
void tuning_finish(void);  /* called after that, right before the snapshot is written */
