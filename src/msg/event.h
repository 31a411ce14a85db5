/*
 * event.h: the names of stored events, from event.def: EVENT_device_connected is "device_connected".  Code that stores
 * an event takes its name from here, so that a name that is not on the list does not compile.
 */
#ifndef BELAY_MSG_EVENT_H
#define BELAY_MSG_EVENT_H

#define EVENT(name, maker, what) static const char EVENT_##name[] __attribute__((unused)) = #name;
#include "msg/event.def"
#undef EVENT

#endif
