# make demo, make demo FOCUS=path/to/export.csv, make test, make bench: see README.md.  make, make install,
# make installcheck: as for any PGXS extension, PG_CONFIG=… to choose a server.

EXTENSION = creditmemo
MODULE_big = creditmemo
OBJS = $(patsubst %.c,%.o,$(sort $(wildcard src/*.c)))
DATA = $(wildcard sql/creditmemo--*.sql)
PG_CPPFLAGS = -I$(srcdir)/src -fvisibility=hidden

REGRESS = install first_memo several_accounts memo_order eligibility purchase_orders refunds \
	services loads memo_changes restatement voids closing moved_accounts symptoms errors restored \
	guards additions imports reconciliation documents verify roles sessions distribute
REGRESS_OPTS = --inputdir=test --load-extension=creditmemo
ISOLATION = load_load_open load_expiry refund_others fold_locked_lines import_others pairs_read_committed \
	pairs_repeatable_read pairs_serializable
ISOLATION_OPTS = --inputdir=test --outputdir=. --load-extension=creditmemo
EXTRA_CLEAN = results regression.diffs regression.out

# These need no server and no headers yet: they install what is missing first.
ifneq ($(filter demo test bench,$(MAKECMDGOALS)),)

.PHONY: demo test bench
demo:
	@test -z "$$FOCUS" || { test -f "$$FOCUS" && test -r "$$FOCUS"; } || \
		{ echo "make demo: cannot read the file FOCUS=$$FOCUS" >&2; exit 1; }
	@test/with-server test/demo/run
test:
	@test/with-server test/run
# no checkpoint but those that it asks for
bench:
	@NEEDS=hyperfine SERVER_SETTINGS="fsync=on shared_buffers=4GB max_wal_size=32GB checkpoint_timeout=1h" \
		test/with-server test/bench/run

else

PG_CONFIG ?= pg_config
PGXS := $(shell $(PG_CONFIG) --pgxs)
include $(PGXS)

$(OBJS): $(wildcard $(srcdir)/src/*.h)

# the server's flags may be another compiler's
ifneq ($(findstring clang,$(CC)),)
override CFLAGS += -Wno-unknown-warning-option -Wno-ignored-optimization-argument \
	-Wno-ignored-attributes
endif

endif
