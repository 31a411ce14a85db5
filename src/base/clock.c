/*
 * clock.c: reads the clocks and turns wall-clock times into RFC 3339 text and back.
 *
 * Used by every process.  Needs no time zone data: all texts are UTC or carry their offset.
 */
#include <time.h>

#include "base/clock.h"

#define DAY_S 86400

static int64_t
read_us(clockid_t id)
{
	struct timespec ts;

	(void)clock_gettime(id, &ts);
	return (int64_t)ts.tv_sec * 1000000 + ts.tv_nsec / 1000;
}

int64_t
clock_now_ms(void)
{
	return read_us(CLOCK_REALTIME) / 1000;
}

int64_t
clock_mono_ms(void)
{
	return read_us(CLOCK_MONOTONIC) / 1000;
}

int64_t
clock_boot_ms(void)
{
	return read_us(CLOCK_BOOTTIME) / 1000;
}

int64_t
clock_mono_us(void)
{
	return read_us(CLOCK_MONOTONIC);
}

/*
 * Days since 1970-01-01 of a date of the Gregorian calendar; years are counted from March so that
 * the leap day is last.
 */
static int64_t
days_from_civil(int64_t y, unsigned m, unsigned d)
{
	int64_t era;
	unsigned yoe, doy, doe;

	y -= m <= 2;
	era = (y >= 0 ? y : y - 399) / 400;
	yoe = (unsigned)(y - era * 400);
	doy = (153 * (m > 2 ? m - 3 : m + 9) + 2) / 5 + d - 1;
	doe = yoe * 365 + yoe / 4 - yoe / 100 + doy;
	return era * 146097 + (int64_t)doe - 719468;
}

static void
civil_from_days(int64_t z, unsigned *y, unsigned *m, unsigned *d)
{
	int64_t era;
	unsigned doe, yoe, doy, mp;

	z += 719468;
	era = (z >= 0 ? z : z - 146096) / 146097;
	doe = (unsigned)(z - era * 146097);
	yoe = (doe - doe / 1460 + doe / 36524 - doe / 146096) / 365;
	doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
	mp = (5 * doy + 2) / 153;
	*d = doy - (153 * mp + 2) / 5 + 1;
	*m = mp < 10 ? mp + 3 : mp - 9;
	*y = (unsigned)((int64_t)yoe + era * 400) + (*m <= 2);
}

static char *
put_digits(char *p, unsigned v, int n)
{
	for (int i = n - 1; i >= 0; i--) {
		p[i] = (char)('0' + v % 10);
		v /= 10;
	}
	return p + n;
}

void
clock_format(int64_t at_ms, char out[CLOCK_TEXT_LEN + 1])
{
	const int64_t first = -62167219200000, last = 253402300799999;	/* years 0000 to 9999 */
	int64_t days, in_day;
	unsigned y, m, d, s;
	char *p = out;

	at_ms = at_ms < first ? first : at_ms > last ? last : at_ms;
	days = at_ms / (DAY_S * 1000);
	in_day = at_ms % (DAY_S * 1000);
	if (in_day < 0) {
		in_day += DAY_S * 1000;
		days--;
	}
	civil_from_days(days, &y, &m, &d);
	s = (unsigned)(in_day / 1000);
	p = put_digits(p, y, 4);
	*p++ = '-';
	p = put_digits(p, m, 2);
	*p++ = '-';
	p = put_digits(p, d, 2);
	*p++ = 'T';
	p = put_digits(p, s / 3600, 2);
	*p++ = ':';
	p = put_digits(p, s / 60 % 60, 2);
	*p++ = ':';
	p = put_digits(p, s % 60, 2);
	*p++ = '.';
	p = put_digits(p, (unsigned)(in_day % 1000), 3);
	*p++ = 'Z';
	*p = '\0';
}

/* Takes exactly n digits off the front; -1 when they are not there. */
static int
take_digits(struct slice *s, size_t n, unsigned *v)
{
	if (s->len < n)
		return -1;
	*v = 0;
	for (size_t i = 0; i < n; i++) {
		if (s->p[i] < '0' || s->p[i] > '9')
			return -1;
		*v = *v * 10 + (unsigned)(s->p[i] - '0');
	}
	s->p += n;
	s->len -= n;
	return 0;
}

/* Takes one byte off the front if it is a or b. */
static int
take_char(struct slice *s, char a, char b)
{
	if (s->len == 0 || (*s->p != a && *s->p != b))
		return -1;
	s->p++;
	s->len--;
	return 0;
}

static unsigned
month_days(unsigned y, unsigned m)
{
	static const unsigned char days[] = { 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31 };

	return m == 2 && (y % 4 == 0 && (y % 100 != 0 || y % 400 == 0)) ? 29 : days[m - 1];
}

/* The fraction, when there is one: 1 to 9 digits, of which milliseconds are kept. */
static int
take_fraction(struct slice *s, unsigned *ms)
{
	unsigned digit, scale = 100, n = 0;

	*ms = 0;
	if (take_char(s, '.', '.') == -1)
		return 0;
	while (take_digits(s, 1, &digit) == 0) {
		*ms += digit * scale;
		scale /= 10;
		n++;
	}
	return n >= 1 && n <= 9 ? 0 : -1;
}

static int
take_offset(struct slice *s, int64_t *offset_s)
{
	unsigned h, m;
	int sign;

	*offset_s = 0;
	if (take_char(s, 'Z', 'z') == 0)
		return 0;
	if (s->len == 0)
		return -1;
	sign = *s->p == '-' ? -1 : 1;
	if (take_char(s, '+', '-') == -1 || take_digits(s, 2, &h) == -1 ||
	    take_char(s, ':', ':') == -1 ||
	    take_digits(s, 2, &m) == -1 || h > 23 || m > 59)
		return -1;
	*offset_s = sign * (int64_t)(h * 3600 + m * 60);
	return 0;
}

int
clock_parse(struct slice text, int64_t *at_ms)
{
	unsigned y, mo, d, h, mi, s, ms;
	int64_t offset_s;

	if (take_digits(&text, 4, &y) == -1 || take_char(&text, '-', '-') == -1 ||
	    take_digits(&text, 2, &mo) == -1 || take_char(&text, '-', '-') == -1 ||
	    take_digits(&text, 2, &d) == -1 || take_char(&text, 'T', 't') == -1 ||
	    take_digits(&text, 2, &h) == -1 || take_char(&text, ':', ':') == -1 ||
	    take_digits(&text, 2, &mi) == -1 || take_char(&text, ':', ':') == -1 ||
	    take_digits(&text, 2, &s) == -1 || take_fraction(&text, &ms) == -1 ||
	    take_offset(&text, &offset_s) == -1 || text.len != 0)
		return -1;
	/* Second 60 is a leap second (RFC 3339 section 5.7); it counts as the next one. */
	if (mo < 1 || mo > 12 || d < 1 || d > month_days(y, mo) || h > 23 || mi > 59 || s > 60)
		return -1;
	*at_ms = days_from_civil(y, mo, d) * DAY_S + (int64_t)(h * 3600 + mi * 60 + s) - offset_s;
	*at_ms = *at_ms * 1000 + ms;
	return 0;
}
