/*
 * title.h: what ps(1) shows for this process.
 */
#ifndef BELAY_BASE_TITLE_H
#define BELAY_BASE_TITLE_H

/*
 * To be called once, first in main(): notes the memory that argv and the environment take, and
 * gives the process copies of both (environ, and the returned argv), which are never freed.
 */
char **title_init(int argc, char **argv);

/*
 * Replaces the command line by "belayd: TEXT".  What stood there, secrets of -o and of the
 * environment included, can't be read by other processes any more.
 */
void title_set(const char *text);

#endif
