/* version.h: the program's version, as configure.ac has it. */
#ifndef BELAY_BASE_VERSION_H
#define BELAY_BASE_VERSION_H

#ifndef PACKAGE_VERSION
#define PACKAGE_VERSION "unknown"	/* built without configure */
#endif
#define BELAY_VERSION PACKAGE_VERSION

#endif
