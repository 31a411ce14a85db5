/* error.h: the error codes of error.def: ERROR_no_access, its name, HTTP status and text. */
#ifndef BELAY_MSG_ERROR_H
#define BELAY_MSG_ERROR_H

#include "base/slice.h"

enum error_code {
	ERROR_NONE,
#define ERROR(code, status, text) ERROR_##code,
#include "msg/error.def"
#undef ERROR
	ERROR_COUNT
};

const char *error_name(enum error_code code);	/* "no_access"; "" for ERROR_NONE */
int error_status(enum error_code code);		/* 403; 200 for ERROR_NONE */
const char *error_text(enum error_code code);
/* The code that fits an HTTP status best: 431 gives headers_too_large; unknown ones bad_request. */
enum error_code error_of_status(int status);

#endif
