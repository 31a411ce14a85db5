/*
 * db_place.c: the place of a store that ends with its instance: private, of one instance, removed at the end, and by the next
 * start after a kill; and where it is made.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/must.h"
#include "db/db.h"
#include "db/place.h"

#define CHILD_SECONDS	60	/* that a process which was forgotten lives at most */

static void
arrange(void)
{
	char err[256] = "";

	if (db_arrange("memory:", (unsigned)-1, (unsigned)-1, err, sizeof(err)) != 1)
		fail_msg("%s", err);
}

static void
folder_of(const char *file, char out[4200])
{
	snprintf(out, 4200, "%s", file);
	*strrchr(out, '/') = '\0';
}

static bool
is_there(const char *path)
{
	struct stat st;

	return lstat(path, &st) == 0;
}

/* One store for all who open it, which a writer that was closed does not take with it. */
static void
is_one_for_all(void **state)
{
	char err[256], folder[4200];
	struct db *db;
	struct stat st;
	int64_t n = 0;

	(void)state;
	assert_null(db_open("memory:", 0, err, sizeof(err)));
	arrange();
	folder_of(place_file(), folder);
	assert_int_equal(stat(folder, &st), 0);
	assert_true(S_ISDIR(st.st_mode) && (st.st_mode & 0777) == 0700 && st.st_uid == geteuid());
	for (int i = 0; i < 2; i++) {
		assert_non_null(db = db_open("memory:", 0, err, sizeof(err)));
		assert_int_equal(DB(db, meta_get, "kept", &n), i == 0 ? DB_NONE : DB_OK);
		assert_int_equal(DB(db, meta_set, "kept", 5), DB_OK);
		db_close(&db);
	}
	assert_int_equal(n, 5);
	db_clear_away();
	assert_false(is_there(folder));
	assert_null(db_open("memory:", 0, err, sizeof(err)));
	db_clear_away();
}

static void
others_need_none(void **state)
{
	char err[256];

	(void)state;
	assert_int_equal(db_arrange("sqlite:///var/lib/belay/belay.db", 1, 1, err, sizeof(err)), 0);
	assert_null(place_file());
	assert_int_equal(db_arrange("memory:x", 1, 1, err, sizeof(err)), -1);
	assert_int_equal(db_check_url("memory:", err, sizeof(err)), 0);
	assert_int_equal(db_check_url("sqlite:///x", err, sizeof(err)), 0);
	for (int i = 0; i < 7; i++) {
		static const char *const bad[] = {
			"", "memory:x", "memory", "sqlite:///", "sqlite://x", "sqlite::memory:", "mariadb://h/d"
		};

		assert_int_equal(db_check_url(bad[i], err, sizeof(err)), -1);
		assert_non_null(strstr(err, "sqlite:///path or memory:"));
	}
}

/* A process with a place and a child that inherited it, both waiting; *master and *child are told, and the folder. */
static void
start_instance(pid_t *master, pid_t *child, char folder[4200])
{
	int out[2];
	ssize_t n;

	must(pipe(out) == 0);
	*master = fork();
	must(*master != -1);
	if (*master == 0) {
		char err[256];
		struct db *db;

		alarm(CHILD_SECONDS);
		if (db_arrange("memory:", (unsigned)-1, (unsigned)-1, err, sizeof(err)) != 1)
			_exit(1);
		*child = fork();
		must(*child != -1);
		if (*child == 0) {
			alarm(CHILD_SECONDS);
			must((db = db_open("memory:", 0, err, sizeof(err))) != NULL);
			must(DB(db, meta_set, "x", 1) == DB_OK);
			folder_of(place_file(), folder);
			*child = getpid();
			must(write(out[1], child, sizeof(*child)) == sizeof(*child));
			must(write(out[1], folder, 4200) == 4200);
		}
		for (;;)
			pause();
	}
	close(out[1]);
	must(read(out[0], child, sizeof(*child)) == sizeof(*child));
	for (size_t got = 0; got < 4200; got += (size_t)n)
		must((n = read(out[0], folder + got, 4200 - got)) > 0);
	close(out[0]);
}

/* Its folder stays as long as any process of its instance lives, and goes at the next start after that. */
static void
goes_after_a_kill(void **state)
{
	char folder[4200], name[4300], mine[4200];
	pid_t master, child;

	(void)state;
	start_instance(&master, &child, folder);
	snprintf(name, sizeof(name), "%s/belay.db", folder);
	arrange();
	folder_of(place_file(), mine);
	assert_string_not_equal(folder, mine);
	db_clear_away();
	assert_true(is_there(name));

	must(kill(master, SIGKILL) == 0 && waitpid(master, NULL, 0) == master);
	arrange();
	db_clear_away();
	assert_true(is_there(name));		/* the orphan uses it still */

	must(kill(child, SIGKILL) == 0);
	/* Not our child: its lock tells when it is gone. */
	for (int i = 0; is_there(folder) && i < 30000; i++) {
		arrange();
		db_clear_away();
		usleep(1000);
	}
	assert_false(is_there(folder));
}

/* What somebody else put there is not followed, and nothing but files of a store is removed. */
static void
removes_nothing_else(void **state)
{
	char base[] = "/tmp/belay-place-XXXXXX", link[128], folder[128], file[160], victim[128];
	int fd;

	(void)state;
	must(mkdtemp(base) != NULL);
	must(setenv("TMPDIR", base, 1) == 0);
	snprintf(victim, sizeof(victim), "%s/victim", base);
	must(mkdir(victim, 0700) == 0);
	snprintf(file, sizeof(file), "%s/belay.db", victim);
	must((fd = open(file, O_CREAT | O_WRONLY, 0600)) != -1 && close(fd) == 0);
	snprintf(link, sizeof(link), "%s/belay-store-AAAAAA", base);
	must(symlink(victim, link) == 0);
	snprintf(folder, sizeof(folder), "%s/belay-store-BBBBBB", base);
	must(mkdir(folder, 0700) == 0);
	snprintf(file, sizeof(file), "%s/thesis.txt", folder);
	must((fd = open(file, O_CREAT | O_WRONLY, 0600)) != -1 && close(fd) == 0);
	arrange();
	db_clear_away();
	assert_true(is_there(link) && is_there(file));
	snprintf(file, sizeof(file), "%s/belay.db", victim);
	assert_true(is_there(file));
	must(unsetenv("TMPDIR") == 0);
	(void)unlink(file);
	(void)rmdir(victim);
	(void)unlink(link);
	snprintf(file, sizeof(file), "%s/thesis.txt", folder);
	(void)unlink(file);
	(void)rmdir(folder);
	assert_int_equal(rmdir(base), 0);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(is_one_for_all), cmocka_unit_test(others_need_none), cmocka_unit_test(goes_after_a_kill),
		cmocka_unit_test(removes_nothing_else),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
