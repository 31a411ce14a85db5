/*
 * answers_each.h: expands answers.def once, with nothing for each macro that the includer did not
 * define, and undefines them all.  Included many times, so it has no guard.
 */
#ifndef CHOICES
#define CHOICES(list)
#endif
#ifndef CHOICE
#define CHOICE(list, value)
#endif
#ifndef CHOICES_END
#define CHOICES_END(list)
#endif
#ifndef SCHEME
#define SCHEME(name, type, detail, parameter, doc)
#endif
#ifndef SHOWS
#define SHOWS(who, scheme)
#endif
#ifndef OBJECT
#define OBJECT(ident, doc)
#endif
#ifndef OBJECT_AS
#define OBJECT_AS(ident, schema, doc)
#endif
#ifndef MEMBER
#define MEMBER(object, name, kind, presence, min, max, choices, doc)
#endif
#ifndef PART
#define PART(object, name, shape, presence, inside, doc)
#endif
#ifndef MESSAGE_IS
#define MESSAGE_IS(message, object)
#endif
#ifndef GROUP
#define GROUP(name, doc)
#endif
#ifndef OPERATION
#define OPERATION(route, group, doc)
#endif
#ifndef PARAM
#define PARAM(route, place, name, kind, presence, min, max, choices, doc)
#endif
#ifndef MANY
#define MANY(route)
#endif
#ifndef ANSWER
#define ANSWER(route, status, object, when)
#endif
#ifndef REFUSED
#define REFUSED(route, code, when)
#endif
#ifndef REFUSED_OTHERWISE
#define REFUSED_OTHERWISE(when)
#endif
#ifndef EXAMPLE
#define EXAMPLE(where, json)
#endif
#ifndef HEADER_OF
#define HEADER_OF(status, name, kind, doc)
#endif
#include "http/answers.def"
#undef CHOICES
#undef CHOICE
#undef CHOICES_END
#undef SCHEME
#undef SHOWS
#undef OBJECT
#undef OBJECT_AS
#undef MEMBER
#undef PART
#undef MESSAGE_IS
#undef GROUP
#undef OPERATION
#undef PARAM
#undef MANY
#undef ANSWER
#undef REFUSED
#undef REFUSED_OTHERWISE
#undef EXAMPLE
#undef HEADER_OF
