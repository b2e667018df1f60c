/*
 * settle.c
 *		The engine: applies credit to billings, and gives it back.
 *
 * Callers say which accounts and periods changed by how much; lock_accounts() and then
 * settle_accounts() bring billings, memos and ledger to where the rules want them; the rules that
 * comments name are those of README.md, "How credit is applied".  An account is read, settled and
 * written before the next one, in one order everywhere: first all member accounts by id; then,
 * account by account, billings by key and memos by id.  So no two calls deadlock, and memory is
 * bounded by the largest account.
 *
 * New charges hold their account FOR KEY SHARE: others may charge it too, and what they share, its
 * open billing and its memos, is locked row by row.  Whatever else can free or add credit holds it
 * FOR UPDATE and has it to itself.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "account.h"

/* ---------------------------------------------------------------------------------------------
 * What may be paid, and in which order
 * ---------------------------------------------------------------------------------------------
 */

/*
 * What credit may still pay of the open billing; negative: what it must give back.  Rule
 * Settled: credit on the open billing is at most its creditable sum, credit over all billings of
 * the period at most the creditable sum over them, and neither sum counts below zero.
 */
static int128
room_for_credit(const Period *period)
{
	int128		of_billing = Max(period->creditable, 0);
	int128		of_period = Max(period->invoiced_creditable + period->creditable, 0) -
		period->invoiced_credit;

	return period->open_no == 0 ? 0 : Min(of_billing, of_period) - period->credit;
}

static bool
is_eligible(const Memo *memo, const Period *period)
{
	return !memo->is_void && memo->first_period <= period->service_period &&
		period->service_period <= memo->last_period;
}

/* The order of spending: less than 0 if a is spent before b. */
static int
compare_spending(const Memo *a, const Memo *b)
{
	/* limited to fewer services first, unlimited last */
	uint32		a_services = (uint32) a->nservices - 1;
	uint32		b_services = (uint32) b->nservices - 1;

	if (a->priority != b->priority)
		return a->priority < b->priority ? -1 : 1;
	if (a->expires_on != b->expires_on)
		return a->expires_on < b->expires_on ? -1 : 1;
	if (a_services != b_services)
		return a_services < b_services ? -1 : 1;
	if (a->redeemed_on != b->redeemed_on)
		return a->redeemed_on < b->redeemed_on ? -1 : 1;
	return a->memo_id < b->memo_id ? -1 : a->memo_id > b->memo_id;
}

static int
compare_spending_pointers(const void *a, const void *b)
{
	return compare_spending(*(Memo *const *) a, *(Memo *const *) b);
}

/* Puts the memos in the order of spending. */
static void
rank_memos(Account *account)
{
	account->spending = palloc(account->nmemos * sizeof(Memo *));
	for (int i = 0; i < account->nmemos; i++)
		account->spending[i] = &account->memos[i];
	qsort(account->spending, account->nmemos, sizeof(Memo *), compare_spending_pointers);
	for (int i = 0; i < account->nmemos; i++)
		account->spending[i]->rank = i;
}

/*
 * Whether the memo's row is needed: whoever has the account to himself may touch any; new charges
 * only those that can pay them.
 */
static bool
may_change(const Account *account, const Memo *memo)
{
	if (account->change->lock == LockTupleExclusive)
		return true;
	for (int i = 0; i < account->nperiods && memo->balance > 0; i++)
		if (room_for_credit(&account->periods[i]) > 0 &&
			is_eligible(memo, &account->periods[i]))
			return true;
	return false;
}

/* What memos limited to services may still pay of the service; negative: what they must give back. */
static int128
room_for_service(const ServiceTotal *total)
{
	return Max(total->charged, 0) - total->paid;
}

/* Of the memo's services the one with the most left to pay, by name among equals; null if none. */
static ServiceTotal *
dearest_service(Account *account, Period *period, const Memo *memo)
{
	ServiceTotal *dearest = NULL;

	read_services(account, period);
	for (int i = 0; i < memo->nservices; i++)
	{
		ServiceTotal *total = find_service(period, memo->services[i]);

		if (total == NULL || room_for_service(total) <= 0)
			continue;
		if (dearest == NULL || room_for_service(total) > room_for_service(dearest) ||
			(room_for_service(total) == room_for_service(dearest) &&
			 compare_text(total->service, dearest->service) < 0))
			dearest = total;
	}
	return dearest;
}

/* ---------------------------------------------------------------------------------------------
 * Credit moved
 * ---------------------------------------------------------------------------------------------
 */

/*
 * Moves the memo's balance by the amount and notes the entry.  With a period, the amount comes
 * from its open billing, or goes to it where negative, and for a limited memo from the service.
 */
static void
post_entry(Account *account, Memo *memo, const char *entry_type, int64 amount,
		   Period *period, ServiceTotal *service, int32 reverses)
{
	Entry	   *entry = palloc(sizeof(Entry));

	Assert(memo->row != NULL && amount != 0);
	memo->balance += amount;
	memo->changed = true;
	if (period != NULL)
	{
		period->credit -= amount;
		period->changed = true;
	}
	if (service != NULL)
		service->paid -= amount;

	entry->memo = memo;
	entry->entry_no = ++memo->entries;
	entry->entry_type = entry_type;
	entry->amount = amount;
	entry->balance_after = memo->balance;
	entry->period = period;
	entry->service = service != NULL ? service->service : NULL;
	entry->reverses = reverses;
	account->entries = lappend(account->entries, entry);
}

/* All credit of an account together is a money_amount, so that every balance is one. */
static void
require_total_in_range(const Account *account)
{
	int128		total = 0;

	for (int i = 0; i < account->nmemos; i++)
		total += account->memos[i].amount;
	if (!is_money(total))
		ereport(ERROR,
				(errcode(ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE),
				 errmsg("credit of member account \"%s\" is out of range",
						text_to_cstring(account->change->account_id)),
				 errdetail("The amounts of an account's credit memos come to less than 10^15."),
				 errhint("Look for a missing decimal point where the amounts come from.")));
}

static void
mark_void(Memo *memo)
{
	memo->is_void = true;
	memo->changed = true;
}

/* Whether the memo's last period is closed, so that it can never pay anything again. */
static bool
has_ended(const Account *account, const Memo *memo)
{
	return account->change->is_closed && memo->last_period <= account->change->closed_through;
}

/*
 * Enters the new memos in the ledger: what they were issued for becomes their balance.  Raises an
 * error for one whose last period is closed.
 */
static void
issue_memos(Account *account)
{
	const AccountChange *change = account->change;

	if (change->nissued > 0)
		require_total_in_range(account);
	for (int i = 0; i < change->nissued; i++)
	{
		Memo	   *memo = get_memo(account, change->issued[i]);

		if (has_ended(account, memo))
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					 errmsg("the credit memo ends in %s, which is closed for member account \"%s\"",
							service_period_text(memo->last_period),
							text_to_cstring(change->account_id)),
					 errdetail("It could never pay anything."),
					 errhint("Check expires_on.")));
		post_entry(account, memo, "issue", memo->amount, NULL, NULL, 0);
	}
}

/* Enters again what had expired of memos whose last period has been reopened (rule Time). */
static void
restore_memos(Account *account)
{
	for (int i = 0; i < account->nmemos; i++)
	{
		Memo	   *memo = &account->memos[i];
		int64		expired;

		if (memo->is_void || memo->last_period == DATEVAL_NOEND || has_ended(account, memo))
			continue;
		expired = read_expired(account->books, account->change->account_id, memo->memo_id);
		if (expired > 0)
			post_entry(account, memo, "restore", expired, NULL, NULL, 0);
	}
}

/* Writes off what void memos, and memos whose last period is closed, have (rules Voided and Time). */
static void
write_off(Account *account)
{
	for (int i = 0; i < account->nmemos; i++)
	{
		Memo	   *memo = &account->memos[i];

		if (memo->balance > 0 && memo->is_void)
			post_entry(account, memo, "void", -memo->balance, NULL, NULL, 0);
		else if (memo->balance > 0 && has_ended(account, memo))
			post_entry(account, memo, "expire", -memo->balance, NULL, NULL, 0);
	}
}

/*
 * The order of giving back: the last billing's first, and in it the newest application; those of
 * one call in the reverse order of spending.  The open billing is always the period's last.
 */
static int
compare_applications_newest_first(const void *a, const void *b)
{
	const Application *x = a;
	const Application *y = b;

	if (x->billing_no != y->billing_no)
		return x->billing_no > y->billing_no ? -1 : 1;
	if (x->recorded_at != y->recorded_at)
		return x->recorded_at > y->recorded_at ? -1 : 1;
	if (x->memo != y->memo)
		return x->memo->rank > y->memo->rank ? -1 : 1;
	return x->entry_no > y->entry_no ? -1 : x->entry_no < y->entry_no;
}

/* The service that a limited memo paid with the application; null if the memo is not limited. */
static ServiceTotal *
service_paid(Account *account, Period *period, const Application *application)
{
	if (application->service == NULL)
		return NULL;
	read_services(account, period);
	return get_service(period, application->service);
}

/* Releases up to so much of an application. */
static void
release(Account *account, Period *period, Application *application, int128 at_most)
{
	int128		amount = Min(application->left, at_most);

	if (amount <= 0)
		return;
	post_entry(account, application->memo, "release", amount, period,
			   service_paid(account, period, application), application->entry_no);
	application->left -= amount;
}

/*
 * Gives back what the period's open billing may no longer hold: credit of memos that are no longer
 * eligible, what limited memos paid of a service beyond what it was charged, and what is beyond
 * the cap.
 */
static void
give_back(Account *account, Period *period)
{
	int			n;
	Application *applications = read_applications(account, period, &n);

	qsort(applications, n, sizeof(Application), compare_applications_newest_first);
	for (int i = 0; i < n; i++)
		if (applications[i].billing_no == period->open_no &&
			!is_eligible(applications[i].memo, period))
			release(account, period, &applications[i], applications[i].left);

	for (int i = 0; i < n; i++)
	{
		ServiceTotal *service = service_paid(account, period, &applications[i]);

		if (service != NULL)
			release(account, period, &applications[i], -room_for_service(service));
	}

	for (int i = 0; i < n && room_for_credit(period) < 0; i++)
		release(account, period, &applications[i], -room_for_credit(period));

	if (room_for_credit(period) < 0)
		elog(ERROR, "member account \"%s\" has more credit in %s than its ledger shows",
			 text_to_cstring(account->change->account_id),
			 service_period_text(period->service_period));
}

/* Pays the open billing from the memos that may, in the order of spending. */
static void
pay(Account *account, Period *period)
{
	for (int i = 0; i < account->nmemos && room_for_credit(period) > 0; i++)
	{
		Memo	   *memo = account->spending[i];

		if (!is_eligible(memo, period))
			continue;
		while (memo->balance > 0 && room_for_credit(period) > 0)
		{
			int64		amount = Min(memo->balance, room_for_credit(period));
			ServiceTotal *service = NULL;

			if (memo->nservices > 0)
			{
				service = dearest_service(account, period, memo);
				if (service == NULL)
					break;
				amount = Min(amount, room_for_service(service));
			}
			post_entry(account, memo, "apply", -amount, period, service, 0);
		}
	}
}

/* ---------------------------------------------------------------------------------------------
 * Accounts settled
 * ---------------------------------------------------------------------------------------------
 */

pg_noreturn static void refuse_change_of_line(Account *account, DateADT service_period,
											  int32 billing_no);

/* Raises the error for lines that were changed or deleted and were not on the open billing. */
static void
refuse_change_of_line(Account *account, DateADT service_period, int32 billing_no)
{
	Datum		keys[3] = {PointerGetDatum(account->change->account_id),
		DateADTGetDatum(service_period), Int32GetDatum(billing_no)};
	TupleTableSlot *row;
	Datum		invoice_number = (Datum) 0;
	bool		not_invoiced = true;

	if (find_row(account->books, BILLINGS_OF_ACCOUNT, 3, keys, &row))
		invoice_number = get_column(account->books, BILLING, row, BILLING_INVOICE_NUMBER,
									&not_invoiced);
	if (not_invoiced)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("a line of member account \"%s\" for %s cannot be changed before it is on a billing",
						text_to_cstring(account->change->account_id),
						service_period_text(service_period)),
				 errhint("Change it in a statement after the one that inserts or moves it.")));
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("utilization of member account \"%s\" for %s is on invoice \"%s\"",
					text_to_cstring(account->change->account_id),
					service_period_text(service_period), TextDatumGetCString(invoice_number)),
			 errdetail("Lines of an invoiced billing are neither changed nor deleted."),
			 errhint("Insert a line with the difference: a negative amount lowers what is due.")));
}

/* Raises an error unless the lines that were changed or deleted were on the open billing. */
static void
require_open_lines(Account *account, const PeriodChange *delta)
{
	int32		open_no = get_period(account, delta->service_period)->open_no;

	if (delta->first_billing_no != 0 && delta->first_billing_no != open_no)
		refuse_change_of_line(account, delta->service_period, delta->first_billing_no);
	if (delta->last_billing_no != 0 && delta->last_billing_no != open_no)
		refuse_change_of_line(account, delta->service_period, delta->last_billing_no);
}

/*
 * Raises an error if the period is invoiced to another customer than the account has now: whatever a
 * refund gave back there would pay for this one.
 */
static void
refuse_other_customers_period(Account *account, const Period *period)
{
	Datum		key = PointerGetDatum(period->last_invoice);
	TupleTableSlot *row;
	text	   *customer_id;

	if (period->last_invoice == NULL ||
		!find_row(account->books, INVOICE_BY_NUMBER, 1, &key, &row))
		return;
	customer_id = DatumGetTextPP(get_required_column(account->books, INVOICE, row,
													 INVOICE_CUSTOMER_ID));
	if (!is_account_of_customer(account->books, account->change->account_id, customer_id))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("service period %s of member account \"%s\" is invoiced to another customer",
						service_period_text(period->service_period),
						text_to_cstring(account->change->account_id)),
				 errdetail("Invoice \"%s\" is customer \"%s\"'s; the account has moved since.",
						   text_to_cstring(period->last_invoice), text_to_cstring(customer_id)),
				 errhint("Put the lines into a service period after the move.")));
}

/* Adds what the statement changed to the open billings. */
static void
add_changes(Account *account)
{
	const AccountChange *change = account->change;

	for (int i = 0; i < change->nperiods; i++)
	{
		PeriodChange *delta = &change->periods[i];
		Period	   *period = get_period(account, delta->service_period);

		period->utilization = cents_from_sum(period->utilization + delta->utilization,
											 change->account_id, delta->service_period);
		period->creditable = cents_from_sum(period->creditable + delta->creditable,
											change->account_id, delta->service_period);
		period->lines_changed = true;
		period->changed |= delta->utilization != 0 || delta->creditable != 0;
		delta->billing_no = period->open_no;
	}
}

/* Whether the period has an open billing and is not closed: what is closed takes no more credit. */
static bool
is_open(const Account *account, const Period *period)
{
	const AccountChange *change = account->change;

	return period->open_no != 0 &&
		!(change->is_closed && period->service_period <= change->closed_through);
}

/* Settles one account, see settle_accounts(). */
static void
settle_account(Books *books, AccountChange *change)
{
	Account		account = {.books = books,.change = change};
	bool		exclusive = change->lock == LockTupleExclusive;
	bool		needs_memos = exclusive;

	if (exclusive)
		read_billings(&account, NULL);
	for (int i = 0; i < change->nperiods; i++)
	{
		if (!exclusive)
			read_billings(&account, &change->periods[i].service_period);
		require_open_lines(&account, &change->periods[i]);
		refuse_other_customers_period(&account,
									  get_period(&account, change->periods[i].service_period));
		open_billing(&account, change->periods[i].service_period);
	}
	lock_billings(&account);
	add_changes(&account);
	if (change->voided_billing_no != 0)
		reopen_billing(&account);

	for (int i = 0; i < account.nperiods; i++)
		needs_memos |= room_for_credit(&account.periods[i]) > 0;
	if (needs_memos)
		read_memos(&account, may_change);
	rank_memos(&account);
	account.recorded_at = GetCurrentTimestamp();

	issue_memos(&account);
	if (change->void_reason != NULL)
		mark_void(get_memo(&account, change->voided_memo));
	if (change->opens_periods)
		restore_memos(&account);
	for (int i = 0; i < account.nperiods && exclusive; i++)
		if (is_open(&account, &account.periods[i]) &&
			(account.periods[i].lines_changed || change->terms_changed))
			give_back(&account, &account.periods[i]);
	if (exclusive)
		write_off(&account);
	for (int i = 0; i < account.nperiods; i++)
		if (is_open(&account, &account.periods[i]))
			pay(&account, &account.periods[i]);

	write_billings(&account);
	write_memos(&account);
	write_entries(&account);
}

/*
 * Settles the accounts, which lock_accounts() has locked: takes the changes up in their open
 * billings, enters new memos, gives back credit that is no longer due, and pays what is open,
 * oldest period first (rule Settled).  Leaves in each PeriodChange the number of the billing that
 * took it up.
 */
void
settle_accounts(Books *books, AccountChange *changes, int nchanges)
{
	MemoryContext account_context = AllocSetContextCreate(CurrentMemoryContext,
														  "creditmemo account",
														  ALLOCSET_DEFAULT_SIZES);
	MemoryContext caller = MemoryContextSwitchTo(account_context);

	for (int i = 0; i < nchanges; i++)
	{
		CHECK_FOR_INTERRUPTS();
		settle_account(books, &changes[i]);
		MemoryContextReset(account_context);
	}
	MemoryContextSwitchTo(caller);
	MemoryContextDelete(account_context);
}
