#pragma once

#include <stddef.h>
#include <stdint.h>

/* A thin door to SQLite, for a database that one thread at a time uses. Functions that return an int return SQLite's
   extended result code: 0 when done. */

enum {
    FC_DATABASE_ROW = 100,  /* fc_statement_step: there is a row to read */
    FC_DATABASE_DONE = 101, /* fc_statement_step: there is none, or no more */
};

struct fc_database;
struct fc_statement;

/* Opens a file, which is made when it is missing. Waits up to `patience` milliseconds where another program holds a lock.
   `*out` is to be closed even when this fails, to have the error's text until then; NULL when there is no memory. */
int fc_database_open(const char *path, int patience, struct fc_database **out);
/* Statements may be finalized later; the file is closed with the last of them. */
void fc_database_close(struct fc_database *);

/* What the latest call that failed met, in words that stay until the next call. */
const char *fc_database_error(struct fc_database *);
/* The errno of the latest system call that failed; 0 for none. */
int fc_database_system_error(struct fc_database *);

/* Runs one or more statements without parameters, and passes over their rows. */
int fc_database_execute(struct fc_database *, const char *statements);

/* Gives up what has begun and was not committed; does nothing when nothing has. */
void fc_database_roll_back(struct fc_database *);

/* Rows that the latest INSERT, UPDATE or DELETE touched. */
int64_t fc_database_changes(struct fc_database *);

/* One statement, to be run any number of times. */
int fc_statement_prepare(struct fc_database *, const char *statement, struct fc_statement **out);
void fc_statement_finalize(struct fc_statement *);

/* Parameters are counted from 1. Octets are not copied: they must stay until the statement is reset. */
int fc_statement_bind_integer(struct fc_statement *, int parameter, int64_t value);
int fc_statement_bind_octets(struct fc_statement *, int parameter, const uint8_t *octets, size_t count);

int fc_statement_step(struct fc_statement *);
/* Ends a run, and lets go of what was bound. */
void fc_statement_reset(struct fc_statement *);

/* Columns are counted from 0. Octets stay until the next step or reset; NULL when there are none. */
int64_t fc_statement_integer(struct fc_statement *, int column);
const uint8_t *fc_statement_octets(struct fc_statement *, int column, size_t *count);
