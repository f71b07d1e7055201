#include "database.h"

#if !__has_include(<sqlite3.h>)
#error "SQLite is missing: install libsqlite3-dev (Debian, Ubuntu) or sqlite-devel (Fedora)"
#endif

#include <sqlite3.h>

_Static_assert(FC_DATABASE_ROW == SQLITE_ROW && FC_DATABASE_DONE == SQLITE_DONE, "SQLite numbers its results otherwise");

// The door's types are SQLite's own under other names, so that its header is needed here only.
static sqlite3 *database(struct fc_database *handle) { return (sqlite3 *)handle; }
static sqlite3_stmt *statement(struct fc_statement *handle) { return (sqlite3_stmt *)handle; }

int fc_database_open(const char *path, int patience, struct fc_database **out) {
    sqlite3 *opened = NULL;
    int result =
        sqlite3_open_v2(path, &opened, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX, NULL);
    *out = (struct fc_database *)opened;
    if (result != SQLITE_OK) return opened ? sqlite3_extended_errcode(opened) : result;
    sqlite3_extended_result_codes(opened, 1);
    return sqlite3_busy_timeout(opened, patience);
}

void fc_database_close(struct fc_database *handle) { sqlite3_close_v2(database(handle)); }

const char *fc_database_error(struct fc_database *handle) { return sqlite3_errmsg(database(handle)); }

int fc_database_system_error(struct fc_database *handle) { return sqlite3_system_errno(database(handle)); }

int fc_database_execute(struct fc_database *handle, const char *statements) {
    return sqlite3_exec(database(handle), statements, NULL, NULL, NULL);
}

void fc_database_roll_back(struct fc_database *handle) {
    // After some errors SQLite has done so already.
    if (!sqlite3_get_autocommit(database(handle))) sqlite3_exec(database(handle), "ROLLBACK", NULL, NULL, NULL);
}

int64_t fc_database_changes(struct fc_database *handle) { return sqlite3_changes64(database(handle)); }

int fc_statement_prepare(struct fc_database *handle, const char *text, struct fc_statement **out) {
    sqlite3_stmt *prepared = NULL;
    int result = sqlite3_prepare_v3(database(handle), text, -1, SQLITE_PREPARE_PERSISTENT, &prepared, NULL);
    *out = (struct fc_statement *)prepared;
    return result;
}

void fc_statement_finalize(struct fc_statement *handle) { sqlite3_finalize(statement(handle)); }

int fc_statement_bind_integer(struct fc_statement *handle, int parameter, int64_t value) {
    return sqlite3_bind_int64(statement(handle), parameter, value);
}

int fc_statement_bind_octets(struct fc_statement *handle, int parameter, const uint8_t *octets, size_t count) {
    // Without an address SQLite would bind NULL.
    return sqlite3_bind_blob64(statement(handle), parameter, octets ? (const void *)octets : "", count, SQLITE_STATIC);
}

int fc_statement_step(struct fc_statement *handle) { return sqlite3_step(statement(handle)); }

void fc_statement_reset(struct fc_statement *handle) {
    sqlite3_reset(statement(handle));
    sqlite3_clear_bindings(statement(handle));
}

int64_t fc_statement_integer(struct fc_statement *handle, int column) {
    return sqlite3_column_int64(statement(handle), column);
}

const uint8_t *fc_statement_octets(struct fc_statement *handle, int column, size_t *count) {
    const uint8_t *octets = sqlite3_column_blob(statement(handle), column);
    *count = (size_t)sqlite3_column_bytes(statement(handle), column);
    return octets;
}
