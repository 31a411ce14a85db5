/*
 * ctl_stats.c: belayctl stats: what the server counts, as it tells it.
 */
#include <stdio.h>
#include <string.h>

#include "belayctl/ctl.h"

#define STATS_TIMEOUT_MS 10000

static int
stats_metrics(struct ctl *ctl)
{
	struct web_request r = { .method = "GET", .timeout_ms = STATS_TIMEOUT_MS };
	struct web_answer a;
	const char *why;
	struct url url;
	int status = CTL_OK;

	ctl_url(ctl, "/metrics", &url);
	if (web_open(&ctl->web, &url, &ctl->tls, &why) == -1)
		ctl_die(CTL_UNREACHABLE, "%s: %s", url.host, why);
	ctl->webbed = true;
	r.target = url.target;
	/* On the admin listener none is wanted; elsewhere it is a service key that opens it. */
	r.token = ctl->token;
	if (web_send(&ctl->web, &r, &a) == -1)
		ctl_die(CTL_UNREACHABLE, "%s: %s", url.authority, a.why);
	if (a.status == 200) {
		fwrite(a.body.data, 1, a.body.len, stdout);
	} else {
		ctl_warn("the server answered with HTTP status %d%s", a.status, a.status == 401 ||
		    a.status == 403 ?
		    ": /metrics wants a service key (-k), or server.admin_listen" : "");
		status = a.status == 401 ? CTL_REFUSED : CTL_FAILED;
	}
	web_answer_fini(&a);
	return status;
}

int
ctl_stats_main(struct ctl *ctl, int argc, char **argv)
{
	bool metrics = false, health = false;
	const struct ctl_opt opts[] = {
		{ "metrics", CTL_FLAG, &metrics, "all counters, as /metrics has them" },
		{ "health", CTL_FLAG, &health, "the state of each part" },
		{ NULL, CTL_FLAG, NULL, NULL }
	};
	struct buf path = BUF_INIT;
	json_t *answer;
	int status;

	ctl_opts(argc, argv, opts, NULL, 0);
	if (metrics)
		return stats_metrics(ctl);
	buf_puts(&path, health ? "/api/health/detailed" : "/v1/websocket/stats");
	if (ctl->token != NULL && ctl->tenant != NULL)
		ctl_query(&path, "tenantId", ctl->tenant);
	buf_putc(&path, '\0');
	status = ctl_rest(ctl, "GET", path.data, NULL, STATS_TIMEOUT_MS, &answer);
	buf_fini(&path);
	if (status == 200 || (health && status == 503 && answer != NULL)) {
		ctl_print(answer, CTL_JSON_PAGE);
		status = status == 200 ? CTL_OK : CTL_FAILED;
	} else {
		status = ctl_refused(status, answer);
	}
	json_decref(answer);
	return status;
}
