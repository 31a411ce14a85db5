/*
 * tenants.h: numbers and names of tenants, as a handle remembers them: they never change, so one that is known costs no
 * look at the store.  For engines; others call db_tenant().
 */
#ifndef BELAY_DB_TENANTS_H
#define BELAY_DB_TENANTS_H

#include "db/db.h"

/* The tenant's name, which lasts until the next tenants_forget().  DB_NONE: there is no such tenant. */
enum db_result tenants_name(struct db *db, int64_t pk, struct slice *name);
/* At a rollback, since a number may be given to another tenant then, and at the end of a handle. */
void tenants_forget(struct db *db);

#endif
