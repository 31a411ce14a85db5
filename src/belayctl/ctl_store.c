/*
 * ctl_store.c: belayctl store: what is done to the store itself, while no server runs on it.
 */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/conf.h"
#include "belayctl/ctl.h"
#include "db/db.h"

static int
restored(const char *url)
{
	struct db_space space;
	char err[512];
	struct db *db;
	int status = CTL_OK;

	if (db_check_url(url, err, sizeof(err)) == -1)
		ctl_die(CTL_USAGE, "store.url: %s", err);
	/* One that is not there must not be made. */
	if (db_space(url, &space) == -1 || access(space.path, F_OK) == -1)
		ctl_die(CTL_USAGE, "store.url of the settings names no store that is there");
	if ((db = db_open(url, 0, err, sizeof(err))) == NULL)
		ctl_die(CTL_FAILED, "%s", err);
	if (db_restored(db) != DB_OK) {
		ctl_warn("%s", db_error(db));
		status = CTL_FAILED;
	}
	db_close(&db);
	if (status == CTL_OK)
		puts("cursors of before are void, and epochs go on above all that were given");
	return status;
}

int
ctl_store_main(struct ctl *ctl, int argc, char **argv)
{
	const struct ctl_opt opts[] = { { NULL, CTL_FLAG, NULL, NULL } };
	const char *what = NULL;

	if (ctl_opts(argc, argv, opts, &what, 1) != 1 || strcmp(what, "restored") != 0)
		ctl_die(CTL_USAGE, "store: \"restored\" is all that can be done");
	ctl->local = true;
	return restored(ctl_conf(ctl)->store_url);
}
