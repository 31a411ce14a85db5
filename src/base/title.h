/*
 * title.h: what ps(1) shows for this process.
 */
#ifndef BELAY_BASE_TITLE_H
#define BELAY_BASE_TITLE_H

/*
 * To be called once, first in main(): gives the process copies of argv and the environment (environ,
 * and the returned argv), which are never freed, and overwrites what stood there: the title is
 * "belayd: starting".  Other users may read the command line of a process, and -o has secrets.
 */
char **title_init(int argc, char **argv);

/* Replaces the title by "belayd: TEXT". */
void title_set(const char *text);

#endif
