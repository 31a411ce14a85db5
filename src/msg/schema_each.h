/*
 * schema_each.h: expands schema.def once, with nothing for each macro that the includer did not
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
#ifndef MESSAGE
#define MESSAGE(ident, wire, from, to, doc)
#endif
#ifndef BODY
#define BODY(ident, doc)
#endif
#ifndef BODY_AS
#define BODY_AS(ident, message, doc)
#endif
#ifndef SHAPE
#define SHAPE(ident, doc)
#endif
#ifndef FIELD
#define FIELD(ident, name, kind, presence, min, max, choices, doc)
#endif
#ifndef END
#define END(ident)
#endif
#include "msg/schema.def"
#undef CHOICES
#undef CHOICE
#undef CHOICES_END
#undef MESSAGE
#undef BODY
#undef BODY_AS
#undef SHAPE
#undef FIELD
#undef END
