/*
 * creditmemo.c
 *		The loadable module.
 */
#include "postgres.h"

#include "creditmemo.h"

PG_MODULE_MAGIC;
