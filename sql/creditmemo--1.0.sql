\echo Use "CREATE EXTENSION creditmemo" to load this file. \quit

/*
 * The parts, in the order of this file: domains, tables, triggers, functions, views, and who
 * may use them.  Every object is commented and every table and sequence marked for pg_dump right
 * where it is made.
 */

-- whatever stands in the schema already is not found by this file's names
SET LOCAL search_path = pg_catalog, pg_temp;
DO $$
DECLARE
	found text;
BEGIN
	SELECT r.rolname INTO found
	FROM pg_roles r
	WHERE NOT r.rolsuper AND has_schema_privilege(r.oid, 'creditmemo', 'CREATE')
	ORDER BY r.rolname
	LIMIT 1;
	IF found IS NOT NULL THEN
		RAISE EXCEPTION 'role "%" may create objects in schema "creditmemo"', found
			USING ERRCODE = 'object_not_in_prerequisite_state',
				DETAIL = 'They could be taken for those of the extension; an owner could drop the schema with all that is in it.',
				HINT = 'Run REVOKE CREATE ON SCHEMA creditmemo, or ALTER SCHEMA creditmemo OWNER TO CURRENT_USER, and create the extension again.';
	END IF;
	SELECT pg_describe_object(d.classid, d.objid, 0) INTO found
	FROM pg_depend d
	WHERE d.refclassid = 'pg_namespace'::regclass AND d.refobjid = 'creditmemo'::regnamespace
		AND d.classid IN ('pg_class'::regclass, 'pg_type'::regclass, 'pg_proc'::regclass, 'pg_operator'::regclass)
	ORDER BY 1
	LIMIT 1;
	IF found IS NOT NULL THEN
		RAISE EXCEPTION 'schema "creditmemo" is not empty'
			USING ERRCODE = 'object_not_in_prerequisite_state',
				DETAIL = format('There is %s, for example.', found),
				HINT = 'Drop what somebody put there, or move it to another schema, and create the extension again.';
	END IF;
END
$$;

REVOKE ALL ON SCHEMA creditmemo FROM PUBLIC;
COMMENT ON SCHEMA creditmemo IS
'Credit memos of AWS member accounts: what was used, which credit paid it, what is due';

-- ---------------------------------------------------------------------------------------------
-- Domains
-- ---------------------------------------------------------------------------------------------

CREATE FUNCTION creditmemo.check_money_amount(numeric) RETURNS boolean
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION creditmemo.check_money_amount(numeric) IS
'The check of the domain money_amount: true, or an error that says what is wrong with the amount';

CREATE DOMAIN creditmemo.money_amount AS numeric
	CONSTRAINT money_amount_check CHECK (creditmemo.check_money_amount(VALUE));
COMMENT ON DOMAIN creditmemo.money_amount IS
'An amount of money in the currency of the customer: finite, at most two decimals, below 10^15. More decimals are an error, never rounded';

CREATE FUNCTION creditmemo.check_service_period(date) RETURNS boolean
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION creditmemo.check_service_period(date) IS
'The check of the domain service_period: true, or an error that says what is wrong with the date';

CREATE DOMAIN creditmemo.service_period AS date
	CONSTRAINT service_period_check CHECK (creditmemo.check_service_period(VALUE));
COMMENT ON DOMAIN creditmemo.service_period IS
'A month of usage, as the date of its first day';

-- ---------------------------------------------------------------------------------------------
-- Tables
-- ---------------------------------------------------------------------------------------------

CREATE FUNCTION creditmemo.check_email_subject(subject text) RETURNS boolean
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION creditmemo.check_email_subject(text) IS
'The check of subjects in email_template: true, or an error that says what is wrong with the subject';

CREATE FUNCTION creditmemo.check_email_text(text text) RETURNS boolean
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION creditmemo.check_email_text(text) IS
'The check of texts in email_template: true, or an error that says what is wrong with the text';

CREATE TABLE creditmemo.customer (
	customer_id text COLLATE "C" PRIMARY KEY CHECK (customer_id <> ''),
	name text NOT NULL,
	address text,
	email text,
	currency text COLLATE "C" NOT NULL DEFAULT 'USD' CHECK (currency ~ '^[A-Z]{3}$'),
	payment_terms_days integer NOT NULL DEFAULT 30 CHECK (payment_terms_days BETWEEN 0 AND 3660)
);
SELECT pg_catalog.pg_extension_config_dump('creditmemo.customer', '');
COMMENT ON TABLE creditmemo.customer IS 'Whom the reseller bills';
COMMENT ON COLUMN creditmemo.customer.customer_id IS 'The customer''s id in the ERP';
COMMENT ON COLUMN creditmemo.customer.name IS 'Name as it stands on documents';
COMMENT ON COLUMN creditmemo.customer.address IS 'Postal address for invoices, line by line';
COMMENT ON COLUMN creditmemo.customer.email IS 'Where invoices are sent';
COMMENT ON COLUMN creditmemo.customer.currency IS 'ISO 4217 code of the one currency of all the customer''s accounts';
COMMENT ON COLUMN creditmemo.customer.payment_terms_days IS 'Days from invoice date to due date';

CREATE TABLE creditmemo.payer_account (
	payer_account_id text COLLATE "C" PRIMARY KEY CHECK (payer_account_id <> ''),
	name text
);
SELECT pg_catalog.pg_extension_config_dump('creditmemo.payer_account', '');
COMMENT ON TABLE creditmemo.payer_account IS 'AWS payer (management) accounts; AWS spends a credit over all of one';
COMMENT ON COLUMN creditmemo.payer_account.payer_account_id IS 'AWS account id, leading zeros kept';
COMMENT ON COLUMN creditmemo.payer_account.name IS 'Name for people';

CREATE TABLE creditmemo.member_account (
	account_id text COLLATE "C" PRIMARY KEY CHECK (account_id <> ''),
	payer_account_id text COLLATE "C" NOT NULL REFERENCES creditmemo.payer_account,
	customer_id text COLLATE "C" NOT NULL REFERENCES creditmemo.customer,
	name text,
	closed_through creditmemo.service_period
);
CREATE INDEX member_account_customer_id_idx ON creditmemo.member_account (customer_id);
SELECT pg_catalog.pg_extension_config_dump('creditmemo.member_account', '');
COMMENT ON TABLE creditmemo.member_account IS 'AWS member (linked) accounts: each has one customer, its own credit memos and its own billings';
COMMENT ON COLUMN creditmemo.member_account.account_id IS 'AWS account id, leading zeros kept';
COMMENT ON COLUMN creditmemo.member_account.payer_account_id IS 'The payer account it is linked to';
COMMENT ON COLUMN creditmemo.member_account.customer_id IS 'The customer who is billed for it';
COMMENT ON COLUMN creditmemo.member_account.name IS 'Name as it stands on documents';
COMMENT ON COLUMN creditmemo.member_account.closed_through IS 'Last service period closed for it: this one and all before take no more utilization, credit, invoices or voids. Kept by close_period() and reopen_period()';

CREATE TABLE creditmemo.period_closing (
	service_period creditmemo.service_period NOT NULL,
	payer_account_id text COLLATE "C" REFERENCES creditmemo.payer_account,
	action text COLLATE "C" NOT NULL CHECK (action IN ('close', 'reopen')),
	reason text,
	accounts bigint NOT NULL CHECK (accounts > 0),
	recorded_at timestamptz NOT NULL DEFAULT clock_timestamp(),
	PRIMARY KEY (service_period, recorded_at),
	CONSTRAINT period_closing_reason_check CHECK ((action = 'reopen') = (reason IS NOT NULL))
);
SELECT pg_catalog.pg_extension_config_dump('creditmemo.period_closing', '');
COMMENT ON TABLE creditmemo.period_closing IS 'Which service periods were closed and reopened, when and why. Written by close_period() and reopen_period()';
COMMENT ON COLUMN creditmemo.period_closing.service_period IS 'Closed: it and all before. Reopened: it and all after';
COMMENT ON COLUMN creditmemo.period_closing.payer_account_id IS 'Of which payer the member accounts were; null: of all';
COMMENT ON COLUMN creditmemo.period_closing.action IS 'close or reopen';
COMMENT ON COLUMN creditmemo.period_closing.reason IS 'Why it was reopened';
COMMENT ON COLUMN creditmemo.period_closing.accounts IS 'For how many member accounts that changed anything';
COMMENT ON COLUMN creditmemo.period_closing.recorded_at IS 'When it was done';

/*
 * Foreign keys to member accounts are checked at commit.  A check at once would lock accounts in the
 * order of the rows, and FOR KEY SHARE where a trigger wants FOR UPDATE next: either can deadlock.
 * The triggers prove the accounts to exist, in the order of their ids; the constraints are for
 * restored rows.
 */
CREATE TABLE creditmemo.po_assignment (
	account_id text COLLATE "C" NOT NULL
		REFERENCES creditmemo.member_account DEFERRABLE INITIALLY DEFERRED,
	assigned_at timestamptz NOT NULL DEFAULT now(),
	po_number text NOT NULL CHECK (po_number <> ''),
	PRIMARY KEY (account_id, assigned_at)
);
SELECT pg_catalog.pg_extension_config_dump('creditmemo.po_assignment', '');
COMMENT ON TABLE creditmemo.po_assignment IS 'Which customer purchase order a member account is assigned to, and since when';
COMMENT ON COLUMN creditmemo.po_assignment.account_id IS 'The member account';
COMMENT ON COLUMN creditmemo.po_assignment.assigned_at IS 'From when on this PO is in force';
COMMENT ON COLUMN creditmemo.po_assignment.po_number IS 'The customer''s purchase order number';

CREATE TABLE creditmemo.credit_memo (
	account_id text COLLATE "C" NOT NULL
		REFERENCES creditmemo.member_account DEFERRABLE INITIALLY DEFERRED,
	memo_id bigint GENERATED BY DEFAULT AS IDENTITY,
	memo_number text COLLATE "C" NOT NULL CHECK (memo_number <> ''),
	credit_type text NOT NULL DEFAULT 'PROMO' CHECK (credit_type <> ''),
	provider_credit_id text,
	amount creditmemo.money_amount NOT NULL CHECK (amount > 0),
	balance creditmemo.money_amount NOT NULL,
	entries integer NOT NULL,
	redeemed_on date NOT NULL,
	first_period creditmemo.service_period NOT NULL,
	expires_on date,
	last_period creditmemo.service_period,
	services text[],
	priority integer NOT NULL DEFAULT 100,
	po_number text NOT NULL,
	note text,
	voided_at timestamptz,
	void_reason text,
	recorded_at timestamptz NOT NULL DEFAULT now(),
	PRIMARY KEY (account_id, memo_id),
	UNIQUE (memo_number, account_id),
	CONSTRAINT credit_memo_balance_check CHECK (balance >= 0 AND balance <= amount),
	CONSTRAINT credit_memo_first_period_check
		CHECK (first_period = date_trunc('month', redeemed_on::timestamp)::date),
	CONSTRAINT credit_memo_last_period_check
		CHECK (last_period IS NOT DISTINCT FROM date_trunc('month', expires_on::timestamp)::date),
	CONSTRAINT credit_memo_expires_on_check CHECK (expires_on >= redeemed_on),
	CONSTRAINT credit_memo_services_check
		CHECK (cardinality(services) > 0 AND array_position(services, NULL) IS NULL),
	CONSTRAINT credit_memo_void_check
		CHECK ((voided_at IS NULL) = (void_reason IS NULL) AND (voided_at IS NULL OR balance = 0))
) WITH (fillfactor = 80);
SELECT pg_catalog.pg_extension_config_dump('creditmemo.credit_memo', '');
SELECT pg_catalog.pg_extension_config_dump('creditmemo.credit_memo_memo_id_seq', '');
COMMENT ON TABLE creditmemo.credit_memo IS 'Credit owned by one member account. It stays open and pays that account''s utilization, month after month, until it is used, void or expired';
COMMENT ON COLUMN creditmemo.credit_memo.account_id IS 'The member account that owns the credit';
COMMENT ON COLUMN creditmemo.credit_memo.memo_id IS 'Id of the memo';
COMMENT ON COLUMN creditmemo.credit_memo.memo_number IS 'Number as it stands on documents; CM and the id unless given';
COMMENT ON COLUMN creditmemo.credit_memo.credit_type IS 'PROMO, DEFW (Data Egress Fee Waiver) or a type of your own';
COMMENT ON COLUMN creditmemo.credit_memo.provider_credit_id IS 'AWS''s id of the credit this memo stands for';
COMMENT ON COLUMN creditmemo.credit_memo.amount IS 'What the memo was issued for';
COMMENT ON COLUMN creditmemo.credit_memo.balance IS 'What is left of it. Kept by triggers: always the sum of its entries, so zero in INSERT ... RETURNING';
COMMENT ON COLUMN creditmemo.credit_memo.entries IS 'How many entries it has in the ledger. Kept by triggers';
COMMENT ON COLUMN creditmemo.credit_memo.redeemed_on IS 'Day the credit was redeemed with AWS';
COMMENT ON COLUMN creditmemo.credit_memo.first_period IS 'First service period it may pay: the month of redemption. Kept by triggers';
COMMENT ON COLUMN creditmemo.credit_memo.expires_on IS 'The day it expires; usage of that whole month is still paid. Null: never. Can be changed';
COMMENT ON COLUMN creditmemo.credit_memo.last_period IS 'Last service period it may pay: the month of expires_on; null if it never expires. Kept by triggers';
COMMENT ON COLUMN creditmemo.credit_memo.services IS 'The only services it may pay; null: all';
COMMENT ON COLUMN creditmemo.credit_memo.priority IS 'Lower is spent first, before all other rules of order. Can be changed';
COMMENT ON COLUMN creditmemo.credit_memo.po_number IS 'The PO the account had when the memo was inserted. Kept by triggers; never changes';
COMMENT ON COLUMN creditmemo.credit_memo.note IS 'Whatever the customer needs to know: it stands on statements. Can be changed';
COMMENT ON COLUMN creditmemo.credit_memo.voided_at IS 'When it was voided';
COMMENT ON COLUMN creditmemo.credit_memo.void_reason IS 'Why it was voided';
COMMENT ON COLUMN creditmemo.credit_memo.recorded_at IS 'Time of the transaction that inserted it; an inserted row with an older time is taken as restored and left as it is';

CREATE TABLE creditmemo.utilization (
	service_period creditmemo.service_period NOT NULL,
	account_id text COLLATE "C" NOT NULL,
	utilization_id bigint GENERATED BY DEFAULT AS IDENTITY,
	service text NOT NULL,
	description text,
	amount creditmemo.money_amount NOT NULL,
	creditable boolean NOT NULL DEFAULT true,
	source_id text COLLATE "C",
	billing_no integer NOT NULL DEFAULT 1,
	recorded_at timestamptz NOT NULL DEFAULT now(),
	PRIMARY KEY (service_period, account_id, utilization_id),
	UNIQUE (account_id, source_id)
);
SELECT pg_catalog.pg_extension_config_dump('creditmemo.utilization', '');
SELECT pg_catalog.pg_extension_config_dump('creditmemo.utilization_utilization_id_seq', '');
COMMENT ON TABLE creditmemo.utilization IS 'Charge lines. Insert or COPY into it: credit is applied in the same statement. That an account exists is proved by the trigger, not by a foreign key';
COMMENT ON COLUMN creditmemo.utilization.service_period IS 'Month of usage (first day)';
COMMENT ON COLUMN creditmemo.utilization.account_id IS 'The member account that used it';
COMMENT ON COLUMN creditmemo.utilization.utilization_id IS 'Id of the line';
COMMENT ON COLUMN creditmemo.utilization.service IS 'Service, for example Amazon EC2';
COMMENT ON COLUMN creditmemo.utilization.description IS 'What it was';
COMMENT ON COLUMN creditmemo.utilization.amount IS 'Charge in the customer''s currency; negative for a refund';
COMMENT ON COLUMN creditmemo.utilization.creditable IS 'False for what no credit may pay: tax, marketplace';
COMMENT ON COLUMN creditmemo.utilization.source_id IS 'The loader''s own key, unique within the account: makes a repeated load harmless';
COMMENT ON COLUMN creditmemo.utilization.billing_no IS 'Which billing of the account and period the line is on. Kept by triggers';
COMMENT ON COLUMN creditmemo.utilization.recorded_at IS 'Time of the transaction that inserted it; an inserted row with an older time is taken as restored and left as it is';

CREATE TABLE creditmemo.invoice (
	invoice_number text COLLATE "C" PRIMARY KEY CHECK (invoice_number <> ''),
	customer_id text COLLATE "C" NOT NULL REFERENCES creditmemo.customer,
	customer_name text NOT NULL,
	customer_address text,
	service_period creditmemo.service_period NOT NULL,
	invoice_date date NOT NULL CHECK (isfinite(invoice_date)),
	due_date date NOT NULL,
	voided_at timestamptz,
	void_reason text,
	recorded_at timestamptz NOT NULL DEFAULT clock_timestamp(),
	UNIQUE (invoice_number, service_period),
	CONSTRAINT invoice_due_date_check CHECK (due_date >= invoice_date AND isfinite(due_date)),
	CONSTRAINT invoice_void_check CHECK ((voided_at IS NULL) = (void_reason IS NULL))
);
CREATE INDEX invoice_customer_id_idx ON creditmemo.invoice (customer_id, service_period);
SELECT pg_catalog.pg_extension_config_dump('creditmemo.invoice', '');
COMMENT ON TABLE creditmemo.invoice IS 'Invoices, written by issue_invoice() and void_invoice()';
COMMENT ON COLUMN creditmemo.invoice.invoice_number IS 'The ERP''s invoice number';
COMMENT ON COLUMN creditmemo.invoice.customer_id IS 'Whom it bills';
COMMENT ON COLUMN creditmemo.invoice.customer_name IS 'The customer''s name when it was issued';
COMMENT ON COLUMN creditmemo.invoice.customer_address IS 'The customer''s address when it was issued';
COMMENT ON COLUMN creditmemo.invoice.service_period IS 'Month of usage it bills (first day)';
COMMENT ON COLUMN creditmemo.invoice.invoice_date IS 'Date on the invoice';
COMMENT ON COLUMN creditmemo.invoice.due_date IS 'Invoice date and the customer''s payment terms';
COMMENT ON COLUMN creditmemo.invoice.voided_at IS 'When it was voided';
COMMENT ON COLUMN creditmemo.invoice.void_reason IS 'Why it was voided';
COMMENT ON COLUMN creditmemo.invoice.recorded_at IS 'Clock time at which its figures were fixed';

CREATE TABLE creditmemo.billing (
	account_id text COLLATE "C" NOT NULL REFERENCES creditmemo.member_account,
	service_period creditmemo.service_period NOT NULL,
	billing_no integer NOT NULL CHECK (billing_no >= 1),
	utilization creditmemo.money_amount NOT NULL,
	creditable creditmemo.money_amount NOT NULL,
	credit creditmemo.money_amount NOT NULL,
	due creditmemo.money_amount GENERATED ALWAYS AS (utilization - credit) STORED,
	folded_into integer,
	invoice_number text COLLATE "C",
	po_number text,
	payer_account_id text COLLATE "C",
	account_name text,
	prior_balance creditmemo.money_amount,
	balance_after creditmemo.money_amount,
	PRIMARY KEY (account_id, service_period, billing_no),
	FOREIGN KEY (account_id, service_period, folded_into) REFERENCES creditmemo.billing,
	FOREIGN KEY (invoice_number, service_period)
		REFERENCES creditmemo.invoice (invoice_number, service_period),
	CONSTRAINT billing_credit_check CHECK (credit <= greatest(creditable, 0)),
	CONSTRAINT billing_invoiced_check
		CHECK ((invoice_number IS NULL) = (prior_balance IS NULL)
			   AND (invoice_number IS NULL) = (balance_after IS NULL)
			   AND (invoice_number IS NULL) = (payer_account_id IS NULL)
			   AND (invoice_number IS NOT NULL OR num_nonnulls(po_number, account_name) = 0)),
	CONSTRAINT billing_balance_check CHECK (prior_balance - credit = balance_after),
	CONSTRAINT billing_folded_check
		CHECK (folded_into IS NULL
			   OR (folded_into < billing_no AND invoice_number IS NULL
				   AND utilization = 0 AND creditable = 0 AND credit = 0))
) WITH (fillfactor = 80);
CREATE UNIQUE INDEX billing_one_open_idx ON creditmemo.billing (account_id, service_period)
	WHERE invoice_number IS NULL AND folded_into IS NULL;
CREATE UNIQUE INDEX billing_one_an_invoice_idx ON creditmemo.billing (invoice_number, account_id)
	WHERE invoice_number IS NOT NULL;
SELECT pg_catalog.pg_extension_config_dump('creditmemo.billing', '');
COMMENT ON TABLE creditmemo.billing IS 'One member account''s utilization of one service period as it goes on one invoice: the sum of its lines, the credit applied to it, what is due. Open until it is on an invoice; then it never changes. Written by triggers';
COMMENT ON COLUMN creditmemo.billing.account_id IS 'The member account';
COMMENT ON COLUMN creditmemo.billing.service_period IS 'Month of usage (first day)';
COMMENT ON COLUMN creditmemo.billing.billing_no IS '1, and 2, 3, ... for supplementary billings: lines that came after the earlier one was invoiced';
COMMENT ON COLUMN creditmemo.billing.utilization IS 'Sum of its lines';
COMMENT ON COLUMN creditmemo.billing.creditable IS 'Sum of those of its lines that credit may pay';
COMMENT ON COLUMN creditmemo.billing.credit IS 'Credit applied to it; negative where a refund gave credit back';
COMMENT ON COLUMN creditmemo.billing.due IS 'Utilization less credit';
COMMENT ON COLUMN creditmemo.billing.folded_into IS 'The billing of this account and period that took its lines and credit over';
COMMENT ON COLUMN creditmemo.billing.invoice_number IS 'The invoice it is on; null while it is open';
COMMENT ON COLUMN creditmemo.billing.po_number IS 'The PO in force when it was invoiced';
COMMENT ON COLUMN creditmemo.billing.payer_account_id IS 'The payer that the account was linked to when it was invoiced';
COMMENT ON COLUMN creditmemo.billing.account_name IS 'The account''s name when it was invoiced';
COMMENT ON COLUMN creditmemo.billing.prior_balance IS 'The account''s credit before this billing, fixed when it was invoiced';
COMMENT ON COLUMN creditmemo.billing.balance_after IS 'The account''s credit left for future use, fixed when it was invoiced';

CREATE TABLE creditmemo.voided_billing (
	account_id text COLLATE "C" NOT NULL,
	invoice_number text COLLATE "C" NOT NULL REFERENCES creditmemo.invoice,
	service_period creditmemo.service_period NOT NULL,
	billing_no integer NOT NULL,
	utilization creditmemo.money_amount NOT NULL,
	creditable creditmemo.money_amount NOT NULL,
	credit creditmemo.money_amount NOT NULL,
	due creditmemo.money_amount GENERATED ALWAYS AS (utilization - credit) STORED,
	po_number text,
	account_name text,
	prior_balance creditmemo.money_amount NOT NULL,
	balance_after creditmemo.money_amount NOT NULL,
	PRIMARY KEY (account_id, invoice_number),
	FOREIGN KEY (account_id, service_period, billing_no) REFERENCES creditmemo.billing
);
CREATE INDEX voided_billing_invoice_number_idx ON creditmemo.voided_billing (invoice_number);
SELECT pg_catalog.pg_extension_config_dump('creditmemo.voided_billing', '');
COMMENT ON TABLE creditmemo.voided_billing IS 'What voided invoices said of each member account: their billings are open again and may have changed. Written by void_invoice()';
COMMENT ON COLUMN creditmemo.voided_billing.account_id IS 'The member account';
COMMENT ON COLUMN creditmemo.voided_billing.invoice_number IS 'The voided invoice';
COMMENT ON COLUMN creditmemo.voided_billing.service_period IS 'Month of usage (first day)';
COMMENT ON COLUMN creditmemo.voided_billing.billing_no IS 'Number of the billing that was taken off';
COMMENT ON COLUMN creditmemo.voided_billing.utilization IS 'Sum of its lines then';
COMMENT ON COLUMN creditmemo.voided_billing.creditable IS 'Sum of those of its lines that credit could pay';
COMMENT ON COLUMN creditmemo.voided_billing.credit IS 'Credit applied to it then';
COMMENT ON COLUMN creditmemo.voided_billing.due IS 'Utilization less credit';
COMMENT ON COLUMN creditmemo.voided_billing.po_number IS 'The PO on the invoice';
COMMENT ON COLUMN creditmemo.voided_billing.account_name IS 'The account''s name on the invoice';
COMMENT ON COLUMN creditmemo.voided_billing.prior_balance IS 'The account''s credit before the billing, as the invoice said';
COMMENT ON COLUMN creditmemo.voided_billing.balance_after IS 'The account''s credit left for future use, as the invoice said';

CREATE TABLE creditmemo.voided_line (
	account_id text COLLATE "C" NOT NULL,
	invoice_number text COLLATE "C" NOT NULL,
	line_no integer NOT NULL CHECK (line_no >= 1),
	service text NOT NULL,
	utilization numeric NOT NULL,
	creditable numeric NOT NULL,
	lines bigint NOT NULL CHECK (lines > 0),
	PRIMARY KEY (account_id, invoice_number, line_no),
	FOREIGN KEY (account_id, invoice_number) REFERENCES creditmemo.voided_billing
);
CREATE INDEX voided_line_invoice_number_idx ON creditmemo.voided_line (invoice_number);
SELECT pg_catalog.pg_extension_config_dump('creditmemo.voided_line', '');
COMMENT ON TABLE creditmemo.voided_line IS 'What voided invoices said of each member account and service: their lines may have changed since. Written by void_invoice()';
COMMENT ON COLUMN creditmemo.voided_line.account_id IS 'The member account';
COMMENT ON COLUMN creditmemo.voided_line.invoice_number IS 'The voided invoice';
COMMENT ON COLUMN creditmemo.voided_line.line_no IS '1, 2, 3, ... within the account on the invoice';
COMMENT ON COLUMN creditmemo.voided_line.service IS 'The service';
COMMENT ON COLUMN creditmemo.voided_line.utilization IS 'What the account used of it, as the invoice said';
COMMENT ON COLUMN creditmemo.voided_line.creditable IS 'What of that credit could pay';
COMMENT ON COLUMN creditmemo.voided_line.lines IS 'From how many lines';

CREATE TABLE creditmemo.memo_entry (
	account_id text COLLATE "C" NOT NULL,
	memo_id bigint NOT NULL,
	entry_no integer NOT NULL CHECK (entry_no >= 1),
	entry_type text COLLATE "C" NOT NULL,
	amount creditmemo.money_amount NOT NULL,
	balance_after creditmemo.money_amount NOT NULL CHECK (balance_after >= 0),
	service_period creditmemo.service_period,
	billing_no integer,
	service text,
	reverses integer,
	recorded_at timestamptz NOT NULL DEFAULT clock_timestamp(),
	PRIMARY KEY (account_id, memo_id, entry_no),
	FOREIGN KEY (account_id, memo_id) REFERENCES creditmemo.credit_memo,
	FOREIGN KEY (account_id, service_period, billing_no) REFERENCES creditmemo.billing,
	FOREIGN KEY (account_id, memo_id, reverses) REFERENCES creditmemo.memo_entry,
	CONSTRAINT memo_entry_type_check
		CHECK (CASE WHEN entry_type IN ('issue', 'release', 'restore') THEN amount > 0
					WHEN entry_type IN ('apply', 'void', 'expire') THEN amount < 0
					ELSE false END),
	CONSTRAINT memo_entry_issue_check
		CHECK ((entry_type = 'issue') = (entry_no = 1)
			   AND (entry_type <> 'issue' OR amount = balance_after)),
	CONSTRAINT memo_entry_billing_check
		CHECK (num_nulls(service_period, billing_no)
			   = CASE WHEN entry_type IN ('apply', 'release') THEN 0 ELSE 2 END
			   AND (service IS NULL OR service_period IS NOT NULL)),
	CONSTRAINT memo_entry_reverses_check
		CHECK ((reverses IS NOT NULL) = (entry_type = 'release') AND reverses < entry_no)
);
CREATE INDEX memo_entry_billing_idx ON creditmemo.memo_entry (account_id, service_period, billing_no);
SELECT pg_catalog.pg_extension_config_dump('creditmemo.memo_entry', '');
COMMENT ON TABLE creditmemo.memo_entry IS 'The ledger: every movement of every memo''s balance. Entries are only ever added, by triggers';
COMMENT ON COLUMN creditmemo.memo_entry.account_id IS 'The member account';
COMMENT ON COLUMN creditmemo.memo_entry.memo_id IS 'The memo whose balance moved';
COMMENT ON COLUMN creditmemo.memo_entry.entry_no IS '1, 2, 3, ... within the memo, without gaps';
COMMENT ON COLUMN creditmemo.memo_entry.entry_type IS 'issue, apply (to a billing), release (back from a billing), void, expire, restore';
COMMENT ON COLUMN creditmemo.memo_entry.amount IS 'Signed, as it moves the balance: negative when credit is applied';
COMMENT ON COLUMN creditmemo.memo_entry.balance_after IS 'The memo''s balance after this entry';
COMMENT ON COLUMN creditmemo.memo_entry.service_period IS 'Month of usage of the billing (apply and release)';
COMMENT ON COLUMN creditmemo.memo_entry.billing_no IS 'Number of the billing (apply and release)';
COMMENT ON COLUMN creditmemo.memo_entry.service IS 'The service paid, where the memo is limited to services';
COMMENT ON COLUMN creditmemo.memo_entry.reverses IS 'The entry of this memo that a release undoes, in whole or in part';
COMMENT ON COLUMN creditmemo.memo_entry.recorded_at IS 'Clock time of the call that wrote it';

CREATE TABLE creditmemo.provider_credit (
	account_id text COLLATE "C" NOT NULL
		REFERENCES creditmemo.member_account DEFERRABLE INITIALLY DEFERRED,
	provider_credit_line_id bigint GENERATED BY DEFAULT AS IDENTITY,
	payer_account_id text COLLATE "C" NOT NULL REFERENCES creditmemo.payer_account,
	owner_account_id text COLLATE "C",
	provider_credit_id text,
	service_period creditmemo.service_period NOT NULL,
	service text,
	amount creditmemo.money_amount NOT NULL,
	description text,
	source_id text COLLATE "C",
	PRIMARY KEY (account_id, provider_credit_line_id),
	UNIQUE (account_id, source_id)
);
CREATE INDEX provider_credit_payer_account_id_idx ON creditmemo.provider_credit (payer_account_id, service_period);
SELECT pg_catalog.pg_extension_config_dump('creditmemo.provider_credit', '');
SELECT pg_catalog.pg_extension_config_dump('creditmemo.provider_credit_provider_credit_line_id_seq', '');
COMMENT ON TABLE creditmemo.provider_credit IS 'What AWS itself applied, to whichever account of the payer. Never paid to anybody: for comparing with our memos';
COMMENT ON COLUMN creditmemo.provider_credit.account_id IS 'The member account on which AWS applied it';
COMMENT ON COLUMN creditmemo.provider_credit.provider_credit_line_id IS 'Id of the line';
COMMENT ON COLUMN creditmemo.provider_credit.payer_account_id IS 'The payer on whose bill it is';
COMMENT ON COLUMN creditmemo.provider_credit.owner_account_id IS 'The account whose credit it was; null where AWS does not say';
COMMENT ON COLUMN creditmemo.provider_credit.provider_credit_id IS 'AWS''s id of the credit; of imports its name, as AWS''s bills have no ids';
COMMENT ON COLUMN creditmemo.provider_credit.service_period IS 'Month of usage (first day)';
COMMENT ON COLUMN creditmemo.provider_credit.service IS 'Service that AWS applied it to';
COMMENT ON COLUMN creditmemo.provider_credit.amount IS 'Amount as on AWS''s bill: negative for credit';
COMMENT ON COLUMN creditmemo.provider_credit.description IS 'AWS''s description';
COMMENT ON COLUMN creditmemo.provider_credit.source_id IS 'The loader''s own key, unique within the account';

CREATE TABLE creditmemo.bill_account (
	payer_account_id text COLLATE "C" NOT NULL,
	billing_period creditmemo.service_period NOT NULL,
	account_id text COLLATE "C" NOT NULL
		REFERENCES creditmemo.member_account DEFERRABLE INITIALLY DEFERRED,
	PRIMARY KEY (payer_account_id, billing_period, account_id)
);
SELECT pg_catalog.pg_extension_config_dump('creditmemo.bill_account', '');
COMMENT ON TABLE creditmemo.bill_account IS 'Which member accounts are or were on which of AWS''s bills: what a bill that is imported again has to be compared with. Written by imports';
COMMENT ON COLUMN creditmemo.bill_account.payer_account_id IS 'The payer whose bill it is';
COMMENT ON COLUMN creditmemo.bill_account.billing_period IS 'Month of the bill (first day)';
COMMENT ON COLUMN creditmemo.bill_account.account_id IS 'The member account';

CREATE TABLE creditmemo.seller (
	is_only_row boolean PRIMARY KEY DEFAULT true CHECK (is_only_row),
	name text NOT NULL CHECK (name ~ '[^[:space:]]'),
	address text,
	logo text,
	remittance text,
	CONSTRAINT seller_logo_is_base64_data_uri_of_image
		CHECK (logo ~ '^data:image/(png|jpeg|gif|webp|svg[+]xml);base64,[A-Za-z0-9+/[:space:]]+[=[:space:]]*$')
);
SELECT pg_catalog.pg_extension_config_dump('creditmemo.seller', '');
COMMENT ON TABLE creditmemo.seller IS 'Who bills: the letterhead of documents. One row, or none';
COMMENT ON COLUMN creditmemo.seller.is_only_row IS 'True: keeps it to one row';
COMMENT ON COLUMN creditmemo.seller.name IS 'Name of the reseller';
COMMENT ON COLUMN creditmemo.seller.address IS 'Postal address, tax number and what else belongs on a letterhead, line by line';
COMMENT ON COLUMN creditmemo.seller.logo IS 'Logo as a data URI, for example data:image/png;base64,...';
COMMENT ON COLUMN creditmemo.seller.remittance IS 'How to pay, line by line; stands below invoices with something due';

CREATE TABLE creditmemo.email_template (
	email_template_id bigint GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY,
	customer_id text COLLATE "C" UNIQUE REFERENCES creditmemo.customer ON DELETE CASCADE,
	subject text CHECK (creditmemo.check_email_subject(subject)),
	text text CHECK (creditmemo.check_email_text(text)),
	CONSTRAINT email_template_wording_check CHECK (num_nonnulls(subject, text) > 0)
);
CREATE UNIQUE INDEX email_template_one_default_idx ON creditmemo.email_template ((true))
	WHERE customer_id IS NULL;
SELECT pg_catalog.pg_extension_config_dump('creditmemo.email_template', '');
SELECT pg_catalog.pg_extension_config_dump('creditmemo.email_template_email_template_id_seq', '');
COMMENT ON TABLE creditmemo.email_template IS 'Wording of e-mails, for all customers or for one, where it is not the built-in one. In braces stand the names of what is filled in, {balance_due} for example';
COMMENT ON COLUMN creditmemo.email_template.email_template_id IS 'Id of the template';
COMMENT ON COLUMN creditmemo.email_template.customer_id IS 'The customer whose e-mails it words; null: all who have no template of their own';
COMMENT ON COLUMN creditmemo.email_template.subject IS 'Subject line; null: as without this row';
COMMENT ON COLUMN creditmemo.email_template.text IS 'The e-mail; paragraphs are separated by blank lines, those that come out blank are left out. Null: as without this row. Filled in are {invoice_number}, {customer_id}, {customer_name}, {po_number}, {seller_name}, {remittance}, {service_period}, {invoice_date}, {due_date}, the same with _iso, {total_utilization}, {credit_applied}, {balance_due}, {prior_balance}, {balance_of_funds}, {summary} and {balances}';

-- ---------------------------------------------------------------------------------------------
-- Triggers
-- ---------------------------------------------------------------------------------------------

CREATE FUNCTION creditmemo.await_utilization() RETURNS trigger
LANGUAGE c AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION creditmemo.await_utilization() IS
'Notes which triggers of the statement are to come: what it inserts, updates and deletes is settled together, after the last of them';
CREATE TRIGGER utilization_await BEFORE INSERT OR UPDATE OR DELETE ON creditmemo.utilization
	FOR EACH STATEMENT EXECUTE FUNCTION creditmemo.await_utilization();

CREATE FUNCTION creditmemo.apply_utilization() RETURNS trigger
LANGUAGE c AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION creditmemo.apply_utilization() IS
'Sums what the statement changed by account and period, brings the open billings to it and settles them with the accounts'' memos';
CREATE TRIGGER utilization_apply AFTER INSERT ON creditmemo.utilization
	REFERENCING NEW TABLE AS inserted_lines
	FOR EACH STATEMENT EXECUTE FUNCTION creditmemo.apply_utilization();
CREATE TRIGGER utilization_restate AFTER UPDATE ON creditmemo.utilization
	REFERENCING OLD TABLE AS old_lines NEW TABLE AS new_lines
	FOR EACH STATEMENT EXECUTE FUNCTION creditmemo.apply_utilization();
CREATE TRIGGER utilization_withdraw AFTER DELETE ON creditmemo.utilization
	REFERENCING OLD TABLE AS deleted_lines
	FOR EACH STATEMENT EXECUTE FUNCTION creditmemo.apply_utilization();

CREATE FUNCTION creditmemo.stamp_credit_memo() RETURNS trigger
LANGUAGE c AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION creditmemo.stamp_credit_memo() IS
'Fills in what a new memo does not say itself: number, periods and the PO in force';
CREATE TRIGGER credit_memo_stamp BEFORE INSERT ON creditmemo.credit_memo
	FOR EACH ROW EXECUTE FUNCTION creditmemo.stamp_credit_memo();

CREATE FUNCTION creditmemo.issue_credit_memo() RETURNS trigger
LANGUAGE c AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION creditmemo.issue_credit_memo() IS
'Enters new memos in the ledger and pays the accounts'' open billings from them';
CREATE TRIGGER credit_memo_issue AFTER INSERT ON creditmemo.credit_memo
	REFERENCING NEW TABLE AS inserted_memos
	FOR EACH STATEMENT EXECUTE FUNCTION creditmemo.issue_credit_memo();

CREATE FUNCTION creditmemo.keep_credit_memo() RETURNS trigger
LANGUAGE c AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION creditmemo.keep_credit_memo() IS
'Refuses changes by hand to what triggers keep, and makes last_period follow expires_on';
CREATE TRIGGER credit_memo_keep BEFORE UPDATE ON creditmemo.credit_memo
	FOR EACH ROW EXECUTE FUNCTION creditmemo.keep_credit_memo();

CREATE FUNCTION creditmemo.resettle_credit_memo() RETURNS trigger
LANGUAGE c AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION creditmemo.resettle_credit_memo() IS
'Settles the open billings of the accounts anew whose memos'' expiry was changed';
CREATE TRIGGER credit_memo_resettle AFTER UPDATE ON creditmemo.credit_memo
	REFERENCING OLD TABLE AS old_memos NEW TABLE AS new_memos
	FOR EACH STATEMENT EXECUTE FUNCTION creditmemo.resettle_credit_memo();

CREATE FUNCTION creditmemo.prove_member_accounts() RETURNS trigger
LANGUAGE c AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION creditmemo.prove_member_accounts() IS
'Proves that the member accounts of the inserted rows exist, and locks them in the order of their ids';
CREATE TRIGGER po_assignment_prove_accounts AFTER INSERT ON creditmemo.po_assignment
	REFERENCING NEW TABLE AS inserted_assignments
	FOR EACH STATEMENT EXECUTE FUNCTION creditmemo.prove_member_accounts();
CREATE TRIGGER provider_credit_prove_accounts AFTER INSERT ON creditmemo.provider_credit
	REFERENCING NEW TABLE AS inserted_credits
	FOR EACH STATEMENT EXECUTE FUNCTION creditmemo.prove_member_accounts();

CREATE FUNCTION creditmemo.move_member_account() RETURNS trigger
LANGUAGE c AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION creditmemo.move_member_account() IS
'Lets an account go to another customer or payer only if nothing of it is open, and keeps closed_through from changes by hand';
CREATE TRIGGER member_account_move BEFORE UPDATE ON creditmemo.member_account
	FOR EACH ROW WHEN (old.customer_id <> new.customer_id OR old.payer_account_id <> new.payer_account_id
					   OR old.closed_through IS DISTINCT FROM new.closed_through)
	EXECUTE FUNCTION creditmemo.move_member_account();

CREATE FUNCTION creditmemo.refuse_change() RETURNS trigger
LANGUAGE c AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION creditmemo.refuse_change() IS
'Refuses the statement; its argument is the hint that says what to do instead';
CREATE TRIGGER customer_refuse_change BEFORE UPDATE ON creditmemo.customer
	FOR EACH ROW WHEN (old.currency <> new.currency) EXECUTE FUNCTION
	creditmemo.refuse_change('A customer has one currency for good: insert another customer for another currency.');
CREATE TRIGGER member_account_refuse_change BEFORE UPDATE ON creditmemo.member_account
	FOR EACH ROW WHEN (old.account_id <> new.account_id) EXECUTE FUNCTION
	creditmemo.refuse_change('A member account keeps its id: insert another one.');
CREATE TRIGGER utilization_refuse_change BEFORE TRUNCATE ON creditmemo.utilization
	FOR EACH STATEMENT EXECUTE FUNCTION
	creditmemo.refuse_change('Delete the lines that are not invoiced; of others insert the difference, as negative amounts.');
CREATE TRIGGER credit_memo_refuse_change BEFORE DELETE OR TRUNCATE ON creditmemo.credit_memo
	FOR EACH STATEMENT EXECUTE FUNCTION
	creditmemo.refuse_change('A credit memo stays in the books once it has been issued: take it back with void_memo().');
CREATE TRIGGER billing_refuse_change BEFORE UPDATE OR DELETE OR TRUNCATE ON creditmemo.billing
	FOR EACH STATEMENT EXECUTE FUNCTION
	creditmemo.refuse_change('Billings follow from utilization, credit memos and invoices: insert into those.');
CREATE TRIGGER memo_entry_refuse_change BEFORE UPDATE OR DELETE OR TRUNCATE ON creditmemo.memo_entry
	FOR EACH STATEMENT EXECUTE FUNCTION
	creditmemo.refuse_change('Entries are only ever added: they follow from utilization, credit memos and invoices.');
CREATE TRIGGER invoice_refuse_change BEFORE UPDATE OR DELETE OR TRUNCATE ON creditmemo.invoice
	FOR EACH STATEMENT EXECUTE FUNCTION
	creditmemo.refuse_change('An invoice stays in the books once it has been issued: take it back with void_invoice().');
CREATE TRIGGER voided_billing_refuse_change BEFORE UPDATE OR DELETE OR TRUNCATE ON creditmemo.voided_billing
	FOR EACH STATEMENT EXECUTE FUNCTION
	creditmemo.refuse_change('What a voided invoice said stays in the books.');
CREATE TRIGGER voided_line_refuse_change BEFORE UPDATE OR DELETE OR TRUNCATE ON creditmemo.voided_line
	FOR EACH STATEMENT EXECUTE FUNCTION
	creditmemo.refuse_change('What a voided invoice said stays in the books.');
CREATE TRIGGER period_closing_refuse_change BEFORE UPDATE OR DELETE OR TRUNCATE ON creditmemo.period_closing
	FOR EACH STATEMENT EXECUTE FUNCTION
	creditmemo.refuse_change('Closings are only ever added, by close_period() and reopen_period().');

-- ---------------------------------------------------------------------------------------------
-- Functions
-- ---------------------------------------------------------------------------------------------

CREATE FUNCTION creditmemo.issue_invoice(
	invoice_number text,
	customer_id text,
	service_period date,
	invoice_date date DEFAULT current_date,
	accounts text[] DEFAULT NULL)
RETURNS creditmemo.invoice
LANGUAGE c VOLATILE
AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION creditmemo.issue_invoice(text, text, date, date, text[]) IS
'Puts the customer''s open billings of a service period (of all accounts, or the given ones) on an invoice, and fixes their PO and balances';

CREATE FUNCTION creditmemo.void_invoice(invoice_number text, reason text DEFAULT NULL)
RETURNS creditmemo.invoice
LANGUAGE c VOLATILE
AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION creditmemo.void_invoice(text, text) IS
'Takes an invoice back, for a reason that has to be given: its billings are open again, take up what came after them, and are settled anew';

CREATE FUNCTION creditmemo.void_memo(memo_number text, reason text DEFAULT NULL,
	account_id text DEFAULT NULL)
RETURNS creditmemo.credit_memo
LANGUAGE c VOLATILE
AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION creditmemo.void_memo(text, text, text) IS
'Takes a credit memo back, for a reason that has to be given: open billings release what it paid, the rest is written off. What invoices say it paid stays paid. The account is needed only where several have a memo of that number';

CREATE FUNCTION creditmemo.close_period(service_period date, payer_account_id text DEFAULT NULL)
RETURNS bigint
LANGUAGE c VOLATILE
AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION creditmemo.close_period(date, text) IS
'Closes a service period and all before it, for the member accounts of a payer or all; memos that end with it expire. Returns how many accounts it closed';

CREATE FUNCTION creditmemo.reopen_period(service_period date, payer_account_id text DEFAULT NULL,
	reason text DEFAULT NULL)
RETURNS bigint
LANGUAGE c VOLATILE
AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION creditmemo.reopen_period(date, text, text) IS
'Opens a closed service period and all after it again, for a reason that has to be given; memos that expired with them are restored. Returns how many accounts it reopened';

CREATE FUNCTION creditmemo.balance_as_of(at timestamptz)
RETURNS TABLE (account_id text, memo_id bigint, balance numeric)
LANGUAGE sql STABLE STRICT
BEGIN ATOMIC
	SELECT DISTINCT ON (e.account_id, e.memo_id) e.account_id, e.memo_id, e.balance_after
	FROM creditmemo.memo_entry e
	WHERE e.recorded_at <= at
	ORDER BY e.account_id, e.memo_id, e.entry_no DESC;
END;
COMMENT ON FUNCTION creditmemo.balance_as_of(timestamptz) IS
'Each credit memo''s balance as the ledger stood at that time; memos that were not in it yet are left out';

/*
 * AWS's bills.  import_focus() and import_cur() make a select list of the source's columns; import_bill()
 * does the rest in a statement or two for each step, over all lines at once, on temporary tables:
 *
 * creditmemo_bill			what the bill comes to by account, month, service and kind, exact and in cents
 * creditmemo_booked_line	what earlier imports of it have booked in utilization
 * creditmemo_bill_change	what is to become of that
 *
 * A line that is booked has the source_id aws:PAYER:BILL:NUMBER:MONTH:KIND:SERVICE, where bill and month of
 * usage are YYYY-MM and the kind is charge, tax or marketplace.  Number 1 is the line, those that follow
 * are differences to what was invoiced or closed when the bill was restated.  So a line is known again by
 * its key, whatever became of it, and the bill it is from.
 */
CREATE FUNCTION creditmemo.account_list(account_ids text[]) RETURNS text
LANGUAGE sql IMMUTABLE
RETURN array_to_string(account_ids[1:10], ', ')
	|| CASE WHEN cardinality(account_ids) > 10 THEN format(' and %s more', cardinality(account_ids) - 10) ELSE '' END;
COMMENT ON FUNCTION creditmemo.account_list(text[]) IS
'Accounts as an error names them: at most ten, then a count';

CREATE TYPE creditmemo.bill_import AS (
	payer_account_id text,
	billing_period date,
	currency text,
	lines_read bigint,
	corrections_read bigint,
	lines_inserted bigint,
	lines_restated bigint,
	lines_withdrawn bigint,
	lines_unchanged bigint,
	exact_total numeric,
	rounded_total numeric,
	rounding_difference numeric,
	credits_read bigint,
	exact_credit numeric,
	rounded_credit numeric,
	is_final boolean
);
COMMENT ON TYPE creditmemo.bill_import IS 'What import_focus() and import_cur() did with the bill of a payer and month';
COMMENT ON COLUMN creditmemo.bill_import.payer_account_id IS 'The payer whose bill it is';
COMMENT ON COLUMN creditmemo.bill_import.billing_period IS 'Month of the bill (first day)';
COMMENT ON COLUMN creditmemo.bill_import.currency IS 'Currency of the bill';
COMMENT ON COLUMN creditmemo.bill_import.lines_read IS 'Lines of the bill, those of AWS''s credit too';
COMMENT ON COLUMN creditmemo.bill_import.corrections_read IS 'Those of them that correct an earlier bill: of ChargeClass Correction, or of an earlier month of usage';
COMMENT ON COLUMN creditmemo.bill_import.lines_inserted IS 'Lines of utilization that are new; where the bill was imported before, the differences to lines that are invoiced or closed';
COMMENT ON COLUMN creditmemo.bill_import.lines_restated IS 'Lines of utilization that were changed';
COMMENT ON COLUMN creditmemo.bill_import.lines_withdrawn IS 'Lines of utilization that were deleted, because the bill has them no more';
COMMENT ON COLUMN creditmemo.bill_import.lines_unchanged IS 'Lines of utilization that stayed as they were';
COMMENT ON COLUMN creditmemo.bill_import.exact_total IS 'What the bill charges, without AWS''s credit, with all its decimals';
COMMENT ON COLUMN creditmemo.bill_import.rounded_total IS 'What it comes to in utilization: the sum over accounts and months of usage, each rounded to cents';
COMMENT ON COLUMN creditmemo.bill_import.rounding_difference IS 'The rounded total less the exact one';
COMMENT ON COLUMN creditmemo.bill_import.credits_read IS 'Lines of AWS''s credit';
COMMENT ON COLUMN creditmemo.bill_import.exact_credit IS 'What they come to, as on the bill: negative';
COMMENT ON COLUMN creditmemo.bill_import.rounded_credit IS 'What they come to in provider_credit, in cents';
COMMENT ON COLUMN creditmemo.bill_import.is_final IS 'Whether every line names the invoice of AWS that it is on: until then AWS may change the bill';

CREATE FUNCTION creditmemo.require_bill_columns(source regclass, VARIADIC names text[]) RETURNS void
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	missing text;
BEGIN
	IF source IS NULL THEN
		RAISE EXCEPTION 'the source of the bill cannot be null'
			USING ERRCODE = 'null_value_not_allowed', HINT = 'Name a table, view or foreign table.';
	END IF;
	SELECT string_agg(format('"%s"', n.name), ', ' ORDER BY n.place) INTO missing
	FROM unnest(names) WITH ORDINALITY n (name, place)
	WHERE NOT EXISTS (
		SELECT
		FROM regexp_split_to_table(n.name, ' or ') alternative
		WHERE creditmemo.bill_column(source, 'text', alternative) <> 'NULL::text');
	IF missing IS NOT NULL THEN
		RAISE EXCEPTION '% has no column %', source, missing
			USING ERRCODE = 'undefined_column', TABLE = source::text,
				HINT = 'Columns are found by name, without regard to case and punctuation; a view can rename them.';
	END IF;
END
$$;
COMMENT ON FUNCTION creditmemo.require_bill_columns(regclass, text[]) IS
'Part of import_focus() and import_cur(): an error that names the columns which the source does not have; "a or b": either';

CREATE FUNCTION creditmemo.bill_column(source regclass, kind text, VARIADIC names text[]) RETURNS text
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	candidate text;
	found text[];
	type regtype;
	category "char";
	as_text text;
BEGIN
	FOREACH candidate IN ARRAY names LOOP
		SELECT array_agg(quote_ident(a.attname) ORDER BY a.attnum), min(a.atttypid::oid), min(t.typcategory)
		INTO found, type, category
		FROM pg_attribute a
		JOIN pg_type t ON t.oid = a.atttypid
		WHERE a.attrelid = source AND a.attnum > 0 AND NOT a.attisdropped
			AND lower(regexp_replace(a.attname, '[^[:alnum:]]', '', 'g'))
				= lower(regexp_replace(candidate, '[^[:alnum:]]', '', 'g'));
		IF cardinality(found) > 1 THEN
			RAISE EXCEPTION '% has several columns "%": %', source, candidate, array_to_string(found, ', ')
				USING ERRCODE = 'ambiguous_column', TABLE = source::text,
					HINT = 'Import from a view that has only the right one.';
		END IF;
		CONTINUE WHEN found IS NULL;
		-- the type under a domain
		WHILE (SELECT t.typtype FROM pg_type t WHERE t.oid = type) = 'd' LOOP
			SELECT t.typbasetype INTO type FROM pg_type t WHERE t.oid = type;
		END LOOP;
		-- a cast of somebody's own type would run his function as whoever imports; its output does not
		as_text := format(CASE WHEN type::oid < 16384 THEN '%s::text' ELSE 'concat(%s)' END, found[1]);
		IF kind = 'amount' THEN
			-- of a floating point number what it reads as, not its first 15 digits
			RETURN format(CASE WHEN category = 'N' AND type NOT IN ('real'::regtype, 'double precision'::regtype)
							   THEN '%1$s::numeric' ELSE 'nullif(%2$s, '''')::numeric' END, found[1], as_text);
		END IF;
		RETURN format(CASE
			WHEN kind = 'month' AND type = 'timestamptz'::regtype THEN 'left((%1$s AT TIME ZONE ''UTC'')::text, 7)'
			-- one character more, to tell a month from a number that begins like one
			WHEN kind = 'month' THEN 'nullif(rtrim(left(%2$s, 8), ''-''), '''')'
			-- a number has lost the zeros that an account id begins with
			WHEN kind = 'account' AND category = 'N' THEN 'lpad(%2$s, greatest(length(%2$s), 12), ''0'')'
			ELSE 'nullif(%2$s, '''')' END || ' COLLATE "C"', found[1], as_text);
	END LOOP;
	RETURN 'NULL::text';
END
$$;
COMMENT ON FUNCTION creditmemo.bill_column(regclass, text, text[]) IS
'Part of import_focus() and import_cur(): SQL that reads the first of these columns which the source has, as an amount, month (YYYY-MM), account or text, empty text as null; NULL::text if it has none';

CREATE FUNCTION creditmemo.stage_bill(source regclass, lines text) RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
SET datestyle = 'ISO'
SET extra_float_digits = 1
AS $$
DECLARE
	context text;
BEGIN
	RAISE NOTICE 'reading %', source;
	BEGIN
		EXECUTE format($sql$
			CREATE TEMP TABLE creditmemo_bill ON COMMIT DROP AS
			SELECT account AS account_id, account_name, payer AS payer_account_id, payer_name, currency, is_of_aws,
				(CASE WHEN service_month LIKE '____-__' AND translate(service_month, '0123456789', '') = '-' THEN service_month || '-01'
					  ELSE 'not ISO: ' || service_month END)::date AS service_period,
				(CASE WHEN billing_month LIKE '____-__' AND translate(billing_month, '0123456789', '') = '-' THEN billing_month || '-01'
					  ELSE 'not ISO: ' || billing_month END)::date AS billing_period,
				service, kind,
				CASE kind WHEN 'tax' THEN 'Tax' WHEN 'marketplace' THEN 'Marketplace' ELSE description END AS description,
				lines, corrections, invoiced_lines, has_costs, cost,
				-- the cents that are missing after rounding down go to the largest remainders
				(cents_down + (row_number() OVER (account_period ORDER BY remainder DESC, service, kind, description)
					<= round(sum(cost) OVER account_period, 2) * 100 - sum(cents_down) OVER account_period)::integer)
					* 0.01 AS amount,
				'aws:' || payer || ':' || billing_month || ':' AS bill_key,
				service_month || ':' || kind || ':'
					|| CASE WHEN kind = 'credit' THEN
								left(encode(sha256(convert_to(concat_ws(E'\n', service, description), 'UTF8')), 'hex'), 32)
							ELSE service END AS line_key
			FROM (
				SELECT charge.*, floor(cost * 100) AS cents_down, cost * 100 - floor(cost * 100) AS remainder
				FROM (
					SELECT account, max(account_name) AS account_name, service, service_month, kind, payer,
						max(payer_name) AS payer_name, billing_month, currency, is_of_aws, description,
						count(*) AS lines, count(*) FILTER (WHERE is_correction OR service_month < billing_month) AS corrections,
						count(invoice) AS invoiced_lines, count(*) = count(cost) AS has_costs, coalesce(sum(cost), 0) AS cost
					FROM (
						SELECT coalesce(account, payer) AS account, coalesce(service, category) AS service, service_month,
							billing_month, CASE WHEN account IS NULL THEN payer_name ELSE account_name END AS account_name,
							payer, payer_name, currency, is_correction, invoice, cost,
							CASE WHEN category IN ('Usage', 'Purchase', 'Adjustment') THEN
									-- by far the most are AWS's own: that is seen without a regular expression
									CASE WHEN seller LIKE 'Amazon Web Services%%' OR seller IS NULL
											OR seller ~* '^(aws|amazon)($|[^[:alnum:]])' THEN 'charge' ELSE 'marketplace' END
								 WHEN category IN ('Tax', 'Credit') THEN lower(category)
								 ELSE '"' || category || '"' END AS kind,
							CASE WHEN category = 'Credit' THEN description END AS description,
							provider = 'AWS' OR provider IS NULL OR provider ~* '^(aws|amazon)($|[^[:alnum:]])' AS is_of_aws
						FROM (SELECT %s FROM %s) line) line
					-- what differs most comes first: it is cheapest to sort by
					GROUP BY account, service, service_month, kind, payer, billing_month, currency, is_of_aws,
						description) charge) charge
			WINDOW account_period AS (PARTITION BY account, service_month, payer, billing_month, is_of_aws, kind = 'credit')
			$sql$, lines, source);
	EXCEPTION WHEN invalid_text_representation OR invalid_datetime_format OR datetime_field_overflow
			OR numeric_value_out_of_range THEN
		GET STACKED DIAGNOSTICS context = PG_EXCEPTION_CONTEXT;
		RAISE EXCEPTION 'a value in % cannot be read: %', source, SQLERRM
			USING ERRCODE = SQLSTATE, TABLE = source::text,
				-- a foreign table knows the line of its file
				DETAIL = CASE WHEN context LIKE 'COPY %' THEN split_part(context, E'\n', 1)
							  ELSE 'Costs are numbers with a decimal point, times begin with year and month, as in 2019-01-31 23:00:00.' END,
				HINT = 'Correct it in the export, or import from a view that converts it.';
	END;
END
$$;
COMMENT ON FUNCTION creditmemo.stage_bill(regclass, text) IS
'Part of import_focus() and import_cur(): sums the lines of the source exactly into the temporary table creditmemo_bill, and rounds the sums so that they come to the rounded exact total of each account and month';

CREATE FUNCTION creditmemo.check_bill(source regclass) RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	sums bigint;
	lines_read bigint;
	others bigint;
	missing text;
	example text;
	unknown text;
	not_finite text[];
BEGIN
	WITH other AS (DELETE FROM pg_temp.creditmemo_bill b WHERE NOT b.is_of_aws RETURNING b.lines)
	SELECT sum(other.lines) INTO others FROM other;
	ANALYZE pg_temp.creditmemo_bill;
	SELECT count(*), sum(b.lines),
		concat_ws(', ', CASE WHEN bool_or(b.payer_account_id IS NULL) THEN 'payer account' END,
			CASE WHEN bool_or(b.kind IS NULL) THEN 'category' END,
			CASE WHEN bool_or(b.billing_period IS NULL) THEN 'billing period' END,
			CASE WHEN bool_or(b.service_period IS NULL) THEN 'charge period' END,
			CASE WHEN bool_or(NOT b.has_costs) THEN 'cost' END,
			CASE WHEN bool_or(b.currency IS NULL) THEN 'currency' END),
		min(b.account_id) FILTER (WHERE b.kind IS NULL OR b.billing_period IS NULL OR b.service_period IS NULL
			OR NOT b.has_costs OR b.currency IS NULL),
		string_agg(DISTINCT b.kind, ', ') FILTER (WHERE b.kind NOT IN ('charge', 'tax', 'marketplace', 'credit')),
		array_agg(DISTINCT b.account_id) FILTER (WHERE b.cost IN ('NaN', 'Infinity', '-Infinity'))
	INTO sums, lines_read, missing, example, unknown, not_finite
	FROM pg_temp.creditmemo_bill b;
	IF lines_read IS NULL THEN
		RAISE EXCEPTION '% has no line of AWS', source
			USING ERRCODE = 'no_data_found', TABLE = source::text,
				HINT = 'See whether it was filled.';
	END IF;
	RAISE NOTICE 'read % lines of AWS%: % sums by account, month and service', lines_read,
		CASE WHEN others > 0 THEN format(', left out %s of other providers', others) ELSE '' END, sums;
	IF missing <> '' THEN
		RAISE EXCEPTION 'lines of % are without %', source, missing
			USING ERRCODE = 'not_null_violation', TABLE = source::text,
				DETAIL = format('Member account: %s, for example.', coalesce(example, 'none')),
				HINT = 'Every line of a bill has these: find those where the column is null or empty.';
	END IF;
	IF unknown IS NOT NULL THEN
		RAISE EXCEPTION '% has lines of unknown category: %', source, unknown
			USING ERRCODE = 'invalid_parameter_value', TABLE = source::text,
				HINT = 'Import from a view that calls them Usage, Tax or Credit.';
	END IF;
	IF not_finite IS NOT NULL THEN
		RAISE EXCEPTION 'costs of % are no amounts of money', source
			USING ERRCODE = 'check_violation', TABLE = source::text,
				DETAIL = format('They are NaN or infinite for member accounts %s.', creditmemo.account_list(not_finite)),
				HINT = 'Look for a failed conversion where the export comes from.';
	END IF;
END
$$;
COMMENT ON FUNCTION creditmemo.check_bill(regclass) IS
'Part of import_focus() and import_cur(): leaves other providers out of the temporary table creditmemo_bill; an error where it has nothing, or lines that lack something or cost what is no amount of money';

CREATE FUNCTION creditmemo.register_bill_accounts(default_customer_id text) RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	unknown text[];
	registered bigint;
	wrong record;
BEGIN
	IF default_customer_id IS NOT NULL THEN
		IF NOT EXISTS (SELECT FROM creditmemo.customer c WHERE c.customer_id = default_customer_id) THEN
			RAISE EXCEPTION 'unknown customer "%"', default_customer_id
				USING ERRCODE = 'foreign_key_violation',
					HINT = 'Insert the customer into creditmemo.customer first.';
		END IF;
		INSERT INTO creditmemo.payer_account (payer_account_id, name)
		SELECT b.payer_account_id, max(b.payer_name)
		FROM pg_temp.creditmemo_bill b
		GROUP BY b.payer_account_id
		ORDER BY b.payer_account_id
		ON CONFLICT DO NOTHING;
		-- an account on two bills belongs to the payer of the later one
		INSERT INTO creditmemo.member_account (account_id, payer_account_id, customer_id, name)
		SELECT DISTINCT ON (b.account_id) b.account_id, b.payer_account_id, default_customer_id, b.account_name
		FROM pg_temp.creditmemo_bill b
		ORDER BY b.account_id, b.billing_period DESC, b.payer_account_id, b.account_name
		ON CONFLICT DO NOTHING;
		GET DIAGNOSTICS registered = ROW_COUNT;
		IF registered > 0 THEN
			RAISE NOTICE 'registered % member accounts of customer "%"', registered, default_customer_id;
		END IF;
	END IF;

	SELECT array_agg(DISTINCT b.payer_account_id ORDER BY b.payer_account_id) INTO unknown
	FROM pg_temp.creditmemo_bill b
	WHERE NOT EXISTS (
		SELECT FROM creditmemo.payer_account p WHERE p.payer_account_id = b.payer_account_id);
	IF unknown IS NOT NULL THEN
		RAISE EXCEPTION 'unknown payer account' USING ERRCODE = 'foreign_key_violation',
			DETAIL = format('Not in creditmemo.payer_account: %s.', creditmemo.account_list(unknown)),
			HINT = 'Insert them first, or name a default_customer_id: then the bill''s accounts are registered.';
	END IF;
	SELECT array_agg(DISTINCT b.account_id ORDER BY b.account_id) INTO unknown
	FROM pg_temp.creditmemo_bill b
	WHERE NOT EXISTS (SELECT FROM creditmemo.member_account a WHERE a.account_id = b.account_id);
	IF unknown IS NOT NULL THEN
		RAISE EXCEPTION 'unknown member account' USING ERRCODE = 'foreign_key_violation',
			DETAIL = format('Not in creditmemo.member_account: %s.', creditmemo.account_list(unknown)),
			HINT = 'Insert them first, or name a default_customer_id: then they are registered under that customer.';
	END IF;

	SELECT b.currency, c.currency AS customer_currency, c.customer_id,
		array_agg(DISTINCT b.account_id ORDER BY b.account_id) AS accounts
	INTO wrong
	FROM pg_temp.creditmemo_bill b
	JOIN creditmemo.member_account a ON a.account_id = b.account_id
	JOIN creditmemo.customer c ON c.customer_id = a.customer_id
	WHERE c.currency <> b.currency
	GROUP BY b.currency, c.customer_id
	ORDER BY b.currency, c.customer_id
	LIMIT 1;
	IF FOUND THEN
		RAISE EXCEPTION 'the bill is in %, customer "%" is billed in %', wrong.currency, wrong.customer_id,
				wrong.customer_currency
			USING ERRCODE = 'invalid_parameter_value',
				DETAIL = format('Member accounts: %s.', creditmemo.account_list(wrong.accounts)),
				HINT = 'Import from a view that converts the costs, or bill these accounts to a customer of the bill''s currency.';
	END IF;
END
$$;
COMMENT ON FUNCTION creditmemo.register_bill_accounts(text) IS
'Part of import_focus() and import_cur(): registers unknown accounts under the default customer; an error that names them without one, or where the bill is in another currency';

CREATE FUNCTION creditmemo.compare_bill() RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	lines bigint;
BEGIN
	-- what earlier imports of the bill have booked, each line numbered from 1 among those of its key
	CREATE TEMP TABLE creditmemo_booked_line ON COMMIT DROP AS
	SELECT b.bill_key, u.account_id, substr(k.key, strpos(k.key, ':') + 1) AS line_key,
		split_part(k.key, ':', 1)::numeric AS no,
		u.service_period, u.utilization_id, u.billing_no, u.service, u.creditable, u.amount
	FROM (SELECT DISTINCT l.bill_key, l.payer_account_id, l.billing_period FROM pg_temp.creditmemo_bill l) b
	JOIN creditmemo.bill_account a ON a.payer_account_id = b.payer_account_id AND a.billing_period = b.billing_period
	JOIN creditmemo.utilization u ON u.account_id = a.account_id
		-- begins with the bill's key: after the colon that it ends with comes the semicolon
		AND u.source_id >= b.bill_key AND u.source_id < left(b.bill_key, -1) || ';'
	CROSS JOIN LATERAL substr(u.source_id, length(b.bill_key) + 1) AS k (key)
	-- whoever may insert lines may give them keys like these
	WHERE k.key ~ '^[1-9][0-9]*:(?!0000)[0-9]{4}-(0[1-9]|1[0-2]):';
	GET DIAGNOSTICS lines = ROW_COUNT;
	ANALYZE pg_temp.creditmemo_booked_line;
	RAISE NOTICE 'comparing with % lines of earlier imports', lines;

	CREATE TEMP TABLE creditmemo_bill_change ON COMMIT DROP AS
	SELECT l.bill_key, l.account_id, l.line_key, l.no, l.last_no, l.is_fixed, l.service_period, l.utilization_id,
		l.service, l.creditable, l.open_amount AS amount,
		CASE WHEN l.first_no IS NULL THEN
				CASE WHEN l.open_amount <> 0 AND (l.no IS NULL OR l.no = l.last_no AND NOT l.is_billed) THEN 'insert' END
			 WHEN l.no IS NULL OR l.is_fixed OR l.is_billed AND l.booked_amount = l.open_amount THEN NULL
			 WHEN l.no > l.first_no OR l.open_amount = 0 THEN 'withdraw'
			 WHEN l.amount <> l.open_amount THEN 'restate' END AS action
	FROM (
		SELECT l.*, bool_or(l.no IS NULL) OVER line_key AS is_billed,
			coalesce(sum(l.amount) FILTER (WHERE l.no IS NULL) OVER line_key, 0)
				- coalesce(sum(l.amount) FILTER (WHERE l.is_fixed) OVER line_key, 0) AS open_amount,
			sum(l.amount) FILTER (WHERE l.no IS NOT NULL AND NOT l.is_fixed) OVER line_key AS booked_amount,
			min(l.no) FILTER (WHERE NOT l.is_fixed) OVER line_key AS first_no,
			max(l.no) OVER line_key AS last_no
		FROM (
			SELECT b.bill_key, b.account_id, b.line_key, b.no,
				o.invoice_number IS NOT NULL OR coalesce(b.service_period <= a.closed_through, false) AS is_fixed,
				b.service_period, b.utilization_id, b.service, b.creditable, b.amount
			FROM pg_temp.creditmemo_booked_line b
			JOIN creditmemo.member_account a ON a.account_id = b.account_id
			LEFT JOIN creditmemo.billing o ON o.account_id = b.account_id
				AND o.service_period = b.service_period AND o.billing_no = b.billing_no
			UNION ALL
			SELECT l.bill_key, l.account_id, l.line_key, NULL, false, l.service_period, NULL, l.service,
				l.kind = 'charge', l.amount
			FROM pg_temp.creditmemo_bill l
			WHERE l.kind <> 'credit' AND l.amount <> 0 AND EXISTS (
				SELECT FROM pg_temp.creditmemo_booked_line b
				WHERE b.account_id = l.account_id AND b.line_key = l.line_key AND b.bill_key = l.bill_key)) l
		WINDOW line_key AS (PARTITION BY l.account_id, l.line_key, l.bill_key)) l;
	-- what is invoiced stays rounded as it was, where another fraction only moves a cent between its lines
	UPDATE pg_temp.creditmemo_bill_change c
	SET action = NULL
	FROM (
		SELECT c.bill_key, c.account_id, left(c.line_key, 7) AS service_month
		FROM pg_temp.creditmemo_bill_change c
		WHERE c.action IS NOT NULL
		GROUP BY c.bill_key, c.account_id, left(c.line_key, 7)
		HAVING sum(c.amount) = 0 AND bool_and(c.action = 'insert' AND abs(c.amount) = 0.01)) rounded
	WHERE c.bill_key = rounded.bill_key AND c.account_id = rounded.account_id
		AND left(c.line_key, 7) = rounded.service_month AND c.action IS NOT NULL;
	ANALYZE pg_temp.creditmemo_bill_change;
END
$$;
COMMENT ON FUNCTION creditmemo.compare_bill() IS
'Part of import_focus() and import_cur(): compares the bill with what earlier imports of it have booked, into the temporary tables creditmemo_booked_line and creditmemo_bill_change: which lines to restate and to withdraw, which differences to insert';

CREATE FUNCTION creditmemo.lock_bill_changes() RETURNS boolean
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF NOT EXISTS (SELECT FROM pg_temp.creditmemo_bill_change c WHERE c.action IS NOT NULL)
		AND (SELECT count(*) FROM pg_temp.creditmemo_bill_change c WHERE c.no IS NULL)
			= (SELECT count(*) FROM pg_temp.creditmemo_bill l WHERE l.kind <> 'credit' AND l.amount <> 0) THEN
		RETURN true;
	END IF;
	-- lines before accounts, each in its order, as any statement that changes lines; and all accounts at once,
	-- those of AWS's credit too
	PERFORM
	FROM creditmemo.utilization u
	JOIN pg_temp.creditmemo_bill_change c USING (service_period, account_id, utilization_id)
	WHERE c.action IN ('restate', 'withdraw')
	ORDER BY u.account_id, u.source_id
	FOR UPDATE OF u;
	PERFORM
	FROM creditmemo.member_account a
	WHERE a.account_id IN (SELECT l.account_id FROM pg_temp.creditmemo_bill l
						   UNION SELECT c.account_id FROM pg_temp.creditmemo_bill_change c WHERE c.action IS NOT NULL)
	ORDER BY a.account_id
	FOR UPDATE;
	RETURN NOT EXISTS (
		SELECT
		FROM pg_temp.creditmemo_bill_change c
		JOIN creditmemo.member_account a ON a.account_id = c.account_id
		LEFT JOIN creditmemo.utilization u ON u.service_period = c.service_period AND u.account_id = c.account_id
			AND u.utilization_id = c.utilization_id
		LEFT JOIN creditmemo.billing o ON o.account_id = u.account_id AND o.service_period = u.service_period
			AND o.billing_no = u.billing_no
		WHERE c.no IS NOT NULL AND c.is_fixed IS DISTINCT FROM
			(o.invoice_number IS NOT NULL OR coalesce(u.service_period <= a.closed_through, u.service_period IS NULL)));
END
$$;
COMMENT ON FUNCTION creditmemo.lock_bill_changes() IS
'Part of import_focus() and import_cur(): locks the lines that are to change and, if there is anything to write, the accounts; false if something was invoiced, closed or opened meanwhile, so that they have to be compared again';

CREATE FUNCTION creditmemo.book_bill_charges() RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	INSERT INTO creditmemo.bill_account (payer_account_id, billing_period, account_id)
	SELECT DISTINCT l.payer_account_id, l.billing_period, l.account_id
	FROM pg_temp.creditmemo_bill l
	WHERE NOT EXISTS (
		SELECT
		FROM creditmemo.bill_account b
		WHERE b.payer_account_id = l.payer_account_id AND b.billing_period = l.billing_period
			AND b.account_id = l.account_id);
	LOOP
		PERFORM creditmemo.compare_bill();
		EXIT WHEN creditmemo.lock_bill_changes();
		DROP TABLE pg_temp.creditmemo_booked_line, pg_temp.creditmemo_bill_change;
	END LOOP;

	RAISE NOTICE 'writing utilization';
	-- one statement, so that credit is settled once with all that the bill changes
	WITH withdrawn AS (
		DELETE FROM creditmemo.utilization u
		USING pg_temp.creditmemo_bill_change c
		WHERE c.action = 'withdraw' AND u.service_period = c.service_period
			AND u.account_id = c.account_id AND u.utilization_id = c.utilization_id),
	restated AS (
		UPDATE creditmemo.utilization u
		SET amount = c.amount
		FROM pg_temp.creditmemo_bill_change c
		WHERE c.action = 'restate' AND u.service_period = c.service_period
			AND u.account_id = c.account_id AND u.utilization_id = c.utilization_id)
	INSERT INTO creditmemo.utilization
		(service_period, account_id, service, description, amount, creditable, source_id)
	SELECT CASE WHEN n.service_period <= a.closed_through THEN n.billing_period ELSE n.service_period END,
		n.account_id, n.service,
		CASE WHEN n.service_period <= a.closed_through THEN
				concat_ws(', ', n.description, 'usage of ' || creditmemo.service_period_text(n.service_period))
			 ELSE n.description END,
		n.amount, n.creditable, n.source_id
	FROM (
		SELECT l.service_period, l.billing_period, l.account_id, l.service, l.description, l.amount,
			l.kind = 'charge' AS creditable, l.bill_key || '1:' || l.line_key AS source_id
		FROM pg_temp.creditmemo_bill l
		WHERE l.kind <> 'credit' AND l.amount <> 0 AND NOT EXISTS (
			SELECT FROM pg_temp.creditmemo_booked_line b
			WHERE b.account_id = l.account_id AND b.line_key = l.line_key AND b.bill_key = l.bill_key)
		UNION ALL
		SELECT (left(c.line_key, 7) || '-01')::date, (left(right(c.bill_key, 8), 7) || '-01')::date, c.account_id,
			c.service, 'Restated by AWS', c.amount, c.creditable, c.bill_key || (c.last_no + 1) || ':' || c.line_key
		FROM pg_temp.creditmemo_bill_change c
		WHERE c.action = 'insert') n
	JOIN creditmemo.member_account a ON a.account_id = n.account_id;
END
$$;
COMMENT ON FUNCTION creditmemo.book_bill_charges() IS
'Part of import_focus() and import_cur(): brings utilization to the bill, and leaves in the temporary table creditmemo_bill_change what it did to each line';

CREATE FUNCTION creditmemo.book_bill_credits() RETURNS bigint
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	changes bigint;
BEGIN
	WITH bill AS (
		SELECT DISTINCT l.bill_key, l.payer_account_id
		FROM pg_temp.creditmemo_bill l),
	billed AS (
		SELECT l.account_id, l.bill_key || l.line_key AS source_id, l.payer_account_id, l.service_period, l.service,
			l.amount, l.description
		FROM pg_temp.creditmemo_bill l
		WHERE l.kind = 'credit'),
	withdrawn AS (
		DELETE FROM creditmemo.provider_credit p
		USING bill b
		WHERE p.payer_account_id = b.payer_account_id AND starts_with(p.source_id, b.bill_key)
			AND NOT EXISTS (
				SELECT FROM billed WHERE billed.account_id = p.account_id AND billed.source_id = p.source_id)
		RETURNING p.account_id),
	written AS (
		INSERT INTO creditmemo.provider_credit AS p
			(account_id, payer_account_id, owner_account_id, provider_credit_id, service_period, service, amount,
			 description, source_id)
		SELECT b.account_id, b.payer_account_id, substring(b.description FROM '(?i)credit from account:? *([0-9]+)'),
			nullif(regexp_replace(b.description, '(?i)[ ,;(]*credit from account:? *[0-9]+[ )]*', ''), ''),
			b.service_period, b.service, b.amount, b.description, b.source_id
		FROM billed b
		WHERE NOT EXISTS (
			SELECT
			FROM creditmemo.provider_credit same
			WHERE same.account_id = b.account_id AND same.source_id = b.source_id AND same.amount = b.amount)
		ORDER BY b.account_id, b.source_id
		ON CONFLICT (account_id, source_id) DO UPDATE SET amount = excluded.amount
		RETURNING p.account_id)
	SELECT count(*) INTO changes FROM (TABLE withdrawn UNION ALL TABLE written) changed;
	RAISE NOTICE 'wrote % lines of AWS''s credit', changes;
	RETURN changes;
END
$$;
COMMENT ON FUNCTION creditmemo.book_bill_credits() IS
'Part of import_focus() and import_cur(): brings provider_credit to the credit that is on the bill; returns how many lines that changed';

CREATE FUNCTION creditmemo.warn_of_missing_bill_month(source regclass, name text) RETURNS void
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF creditmemo.bill_column(source, 'month', name) = 'NULL::text' THEN
		RAISE WARNING '% has no column "%"', source, name
			USING DETAIL = 'Each month of usage is taken for a bill of its own: a late line replaces what was imported of its month.';
	END IF;
END
$$;
COMMENT ON FUNCTION creditmemo.warn_of_missing_bill_month(regclass, text) IS
'Part of import_focus() and import_cur(): a warning where the source does not say which month''s bill a line is on';

CREATE FUNCTION creditmemo.import_bill(source regclass, lines text, names text, default_customer_id text)
RETURNS SETOF creditmemo.bill_import
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	bill creditmemo.bill_import;
	changes bigint;
BEGIN
	-- names are for accounts that are registered
	PERFORM creditmemo.stage_bill(source, concat_ws(', ', lines,
		CASE WHEN default_customer_id IS NULL THEN 'NULL AS payer_name, NULL AS account_name' ELSE names END));
	PERFORM creditmemo.check_bill(source);
	PERFORM creditmemo.register_bill_accounts(default_customer_id);
	-- one import of a payer's bills at a time
	PERFORM
	FROM creditmemo.payer_account p
	WHERE p.payer_account_id IN (SELECT b.payer_account_id FROM pg_temp.creditmemo_bill b)
	ORDER BY p.payer_account_id
	FOR NO KEY UPDATE;
	PERFORM creditmemo.book_bill_charges();
	changes := creditmemo.book_bill_credits();

	FOR bill IN
		SELECT b.payer_account_id, b.billing_period, b.currency, b.lines_read, b.corrections_read,
			b.lines_to_book - coalesce(c.billed, 0) + coalesce(c.inserted, 0) AS lines_inserted,
			coalesce(c.restated, 0) AS lines_restated, coalesce(c.withdrawn, 0) AS lines_withdrawn,
			coalesce(c.booked - c.restated - c.withdrawn, 0) AS lines_unchanged,
			trim_scale(b.exact_total) AS exact_total, b.rounded_total,
			trim_scale(b.rounded_total - b.exact_total) AS rounding_difference,
			b.credits_read, trim_scale(b.exact_credit) AS exact_credit, b.rounded_credit, b.is_final
		FROM (
			SELECT b.payer_account_id, b.billing_period, b.currency, b.bill_key, sum(b.lines)::bigint AS lines_read,
				sum(b.corrections)::bigint AS corrections_read,
				count(*) FILTER (WHERE b.kind <> 'credit' AND b.amount <> 0) AS lines_to_book,
				coalesce(sum(b.cost) FILTER (WHERE b.kind <> 'credit'), 0) AS exact_total,
				coalesce(sum(b.amount) FILTER (WHERE b.kind <> 'credit'), 0.00) AS rounded_total,
				coalesce(sum(b.lines) FILTER (WHERE b.kind = 'credit'), 0)::bigint AS credits_read,
				coalesce(sum(b.cost) FILTER (WHERE b.kind = 'credit'), 0) AS exact_credit,
				coalesce(sum(b.amount) FILTER (WHERE b.kind = 'credit'), 0.00) AS rounded_credit,
				sum(b.lines) = sum(b.invoiced_lines) AS is_final
			FROM pg_temp.creditmemo_bill b
			GROUP BY b.payer_account_id, b.billing_period, b.currency, b.bill_key) b
		LEFT JOIN (
			SELECT c.bill_key, u.currency, count(*) FILTER (WHERE c.no IS NULL) AS billed, count(c.no) AS booked,
				count(*) FILTER (WHERE c.action = 'insert') AS inserted,
				count(*) FILTER (WHERE c.action = 'restate') AS restated,
				count(*) FILTER (WHERE c.action = 'withdraw') AS withdrawn
			FROM pg_temp.creditmemo_bill_change c
			JOIN creditmemo.member_account a ON a.account_id = c.account_id
			JOIN creditmemo.customer u ON u.customer_id = a.customer_id
			GROUP BY c.bill_key, u.currency) c USING (bill_key, currency)
		ORDER BY b.payer_account_id, b.billing_period, b.currency
	LOOP
		RAISE NOTICE 'bill of payer account % for % in %: % lines inserted, % restated, % withdrawn, % unchanged',
			bill.payer_account_id, creditmemo.service_period_text(bill.billing_period), bill.currency,
			bill.lines_inserted, bill.lines_restated, bill.lines_withdrawn, bill.lines_unchanged;
		RETURN NEXT bill;
		changes := changes + bill.lines_inserted + bill.lines_restated + bill.lines_withdrawn;
	END LOOP;
	IF changes > 0 THEN
		-- above READ COMMITTED, whoever waits for the payer with an older snapshot has to start again
		UPDATE creditmemo.payer_account p
		SET name = p.name
		WHERE p.payer_account_id IN (SELECT b.payer_account_id FROM pg_temp.creditmemo_bill b);
	END IF;
	DROP TABLE pg_temp.creditmemo_bill, pg_temp.creditmemo_booked_line, pg_temp.creditmemo_bill_change;
END
$$;
COMMENT ON FUNCTION creditmemo.import_bill(regclass, text, text, text) IS
'Part of import_focus() and import_cur(): imports the lines that a select list reads from the source, and another one their accounts'' names';

CREATE FUNCTION creditmemo.import_focus(source regclass, default_customer_id text DEFAULT NULL)
RETURNS SETOF creditmemo.bill_import
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	lines text;
	names text;
BEGIN
	PERFORM creditmemo.require_bill_columns(source, 'BillingAccountId', 'SubAccountId', 'BilledCost', 'BillingCurrency',
		'ChargeCategory', 'ServiceName', 'ChargeDescription', 'ChargePeriodStart or BillingPeriodStart');
	PERFORM creditmemo.warn_of_missing_bill_month(source, 'BillingPeriodStart');
	lines := concat_ws(', ',
		creditmemo.bill_column(source, 'account', 'BillingAccountId') || ' AS payer',
		creditmemo.bill_column(source, 'account', 'SubAccountId') || ' AS account',
		creditmemo.bill_column(source, 'text', 'BillingCurrency') || ' AS currency',
		creditmemo.bill_column(source, 'month', 'BillingPeriodStart', 'ChargePeriodStart') || ' AS billing_month',
		creditmemo.bill_column(source, 'month', 'ChargePeriodStart', 'BillingPeriodStart') || ' AS service_month',
		creditmemo.bill_column(source, 'text', 'ServiceName') || ' AS service',
		creditmemo.bill_column(source, 'text', 'ChargeCategory') || ' AS category',
		creditmemo.bill_column(source, 'text', 'ChargeClass') || ' = ''Correction'' AS is_correction',
		creditmemo.bill_column(source, 'text', 'PublisherName', 'ServiceProviderName') || ' AS seller',
		creditmemo.bill_column(source, 'text', 'ProviderName', 'InvoiceIssuerName') || ' AS provider',
		creditmemo.bill_column(source, 'text', 'ChargeDescription') || ' AS description',
		creditmemo.bill_column(source, 'text', 'InvoiceId') || ' AS invoice',
		creditmemo.bill_column(source, 'amount', 'BilledCost') || ' AS cost');
	names := concat_ws(', ',
		creditmemo.bill_column(source, 'text', 'BillingAccountName') || ' AS payer_name',
		creditmemo.bill_column(source, 'text', 'SubAccountName') || ' AS account_name');
	RETURN QUERY SELECT * FROM creditmemo.import_bill(source, lines, names, default_customer_id);
END
$$;
COMMENT ON FUNCTION creditmemo.import_focus(regclass, text) IS
'Imports AWS''s bills from a table with FOCUS columns into utilization and provider_credit, exact to the cent. Importing a bill again restates it. Accounts that are not known are registered under the default customer, if one is given. Returns what it did, a row per payer and month';

CREATE FUNCTION creditmemo.import_cur(source regclass, default_customer_id text DEFAULT NULL)
RETURNS SETOF creditmemo.bill_import
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	lines text;
	names text;
BEGIN
	PERFORM creditmemo.require_bill_columns(source, 'bill_payer_account_id', 'line_item_usage_account_id',
		'line_item_unblended_cost', 'line_item_currency_code', 'line_item_line_item_type',
		'line_item_line_item_description', 'line_item_product_code',
		'line_item_usage_start_date or bill_billing_period_start_date');
	PERFORM creditmemo.warn_of_missing_bill_month(source, 'bill_billing_period_start_date');
	lines := concat_ws(', ',
		creditmemo.bill_column(source, 'account', 'bill_payer_account_id') || ' AS payer',
		creditmemo.bill_column(source, 'account', 'line_item_usage_account_id') || ' AS account',
		creditmemo.bill_column(source, 'text', 'line_item_currency_code') || ' AS currency',
		creditmemo.bill_column(source, 'month', 'bill_billing_period_start_date', 'line_item_usage_start_date') || ' AS billing_month',
		creditmemo.bill_column(source, 'month', 'line_item_usage_start_date', 'bill_billing_period_start_date') || ' AS service_month',
		-- CUR 2.0 has the product's name in a map
		format('coalesce(%s, nullif(%s::jsonb ->> ''product_name'', ''''), %s) AS service',
			   creditmemo.bill_column(source, 'text', 'product_product_name'),
			   creditmemo.bill_column(source, 'text', 'product'),
			   creditmemo.bill_column(source, 'text', 'line_item_product_code')),
		format('CASE WHEN %1$s IN (''Fee'', ''RIFee'', ''Refund'', ''DiscountedUsage'') OR %1$s LIKE ''%%Discount'' '
			   'OR %1$s LIKE ''SavingsPlan%%'' THEN ''Usage'' ELSE %1$s END AS category',
			   creditmemo.bill_column(source, 'text', 'line_item_line_item_type')),
		'false AS is_correction',
		format('CASE WHEN %s LIKE ''%%Marketplace%%'' THEN coalesce(%s, ''Marketplace'') END AS seller',
			   creditmemo.bill_column(source, 'text', 'bill_billing_entity'),
			   creditmemo.bill_column(source, 'text', 'line_item_legal_entity')),
		'NULL::text AS provider',
		creditmemo.bill_column(source, 'text', 'line_item_line_item_description') || ' AS description',
		creditmemo.bill_column(source, 'text', 'bill_invoice_id') || ' AS invoice',
		creditmemo.bill_column(source, 'amount', 'line_item_unblended_cost') || ' AS cost');
	names := concat_ws(', ',
		creditmemo.bill_column(source, 'text', 'bill_payer_account_name') || ' AS payer_name',
		creditmemo.bill_column(source, 'text', 'line_item_usage_account_name') || ' AS account_name');
	RETURN QUERY SELECT * FROM creditmemo.import_bill(source, lines, names, default_customer_id);
END
$$;
COMMENT ON FUNCTION creditmemo.import_cur(regclass, text) IS
'The same as import_focus() from a table with the columns of a Cost and Usage Report, legacy or 2.0';

CREATE FUNCTION creditmemo.require_payer_period(payer_account_id text, service_period date) RETURNS void
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF payer_account_id IS NULL OR service_period IS NULL THEN
		RAISE EXCEPTION 'the payer account and the service period cannot be null'
			USING ERRCODE = 'null_value_not_allowed', HINT = 'Give a payer account and the first day of a month.';
	END IF;
	PERFORM service_period::creditmemo.service_period;
	IF NOT EXISTS (
			SELECT FROM creditmemo.payer_account p
			WHERE p.payer_account_id = require_payer_period.payer_account_id) THEN
		RAISE EXCEPTION 'unknown payer account "%"', payer_account_id
			USING ERRCODE = 'foreign_key_violation', HINT = 'Look it up in creditmemo.payer_account.';
	END IF;
END
$$;
COMMENT ON FUNCTION creditmemo.require_payer_period(text, date) IS
'An error unless the payer account is known and the date is the first of a month';

CREATE FUNCTION creditmemo.defw_waiver(payer_account_id text, service_period date, egress_services text[])
RETURNS TABLE (account_id text, egress numeric, waiver numeric)
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
BEGIN
	PERFORM creditmemo.require_payer_period(defw_waiver.payer_account_id, defw_waiver.service_period);
	RETURN QUERY
	WITH charge AS (
		SELECT a.account_id, c.currency, sum(u.amount) AS total,
			coalesce(sum(u.amount) FILTER (WHERE u.service = ANY (defw_waiver.egress_services)), 0.00) AS egress
		FROM creditmemo.member_account a
		JOIN creditmemo.customer c ON c.customer_id = a.customer_id
		JOIN creditmemo.utilization u ON u.account_id = a.account_id
		WHERE a.payer_account_id = defw_waiver.payer_account_id
			AND u.service_period = defw_waiver.service_period
		GROUP BY a.account_id, c.currency),
	waiver AS (
		SELECT c.currency, least(sum(c.egress), round(sum(c.total) * 0.15, 2)) * 100 AS cents,
			sum(greatest(c.egress, 0)) * 100 AS egress_cents
		FROM charge c
		GROUP BY c.currency),
	share AS (
		SELECT c.account_id, c.egress, c.currency, w.cents,
			div(w.cents * c.egress * 100, w.egress_cents) AS cents_down,
			mod(w.cents * c.egress * 100, w.egress_cents) AS remainder
		FROM charge c
		JOIN waiver w ON w.currency = c.currency
		WHERE w.cents > 0 AND c.egress > 0),
	-- the cents that are missing after rounding down go to the largest remainders
	rounded AS (
		SELECT s.account_id, s.egress,
			s.cents_down + (row_number() OVER (PARTITION BY s.currency ORDER BY s.remainder DESC, s.account_id)
							<= s.cents - sum(s.cents_down) OVER (PARTITION BY s.currency))::integer AS cents
		FROM share s)
	SELECT r.account_id, round(r.egress, 2), r.cents * 0.01
	FROM rounded r
	WHERE r.cents > 0
	ORDER BY r.account_id;
END
$$;
COMMENT ON FUNCTION creditmemo.defw_waiver(text, date, text[]) IS
'The Data Egress Fee Waiver of a payer''s month: egress, but at most 15 % of all utilization, split over the member accounts by their egress, exact to the cent. Accounts without a waiver are left out';

CREATE FUNCTION creditmemo.predicted_allocation(payer_account_id text, service_period date)
RETURNS TABLE (provider_credit_id text, owner_account_id text, account_id text, service text, spend numeric,
	predicted numeric, actual numeric, differs boolean, rule text)
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
	-- what there is to pay, in AWS's order: accounts by what they spend, their services by what they cost
	accounts text[] COLLATE "C";
	services text[];
	spends numeric[];
	unpaid numeric[];
	credit record;
	place integer;
	at_owner boolean;
	paid numeric;
	-- what is predicted: which credit pays how much at which place
	predicted_ids text[] := '{}';
	predicted_owners text[] COLLATE "C" := '{}';
	predicted_places integer[] := '{}';
	predicted_amounts numeric[] := '{}';
BEGIN
	PERFORM creditmemo.require_payer_period(predicted_allocation.payer_account_id, predicted_allocation.service_period);
	SELECT array_agg(s.account_id ORDER BY s.account_spend DESC, s.account_id, s.spend DESC, s.service COLLATE "C"),
		array_agg(s.service ORDER BY s.account_spend DESC, s.account_id, s.spend DESC, s.service COLLATE "C"),
		array_agg(s.spend ORDER BY s.account_spend DESC, s.account_id, s.spend DESC, s.service COLLATE "C")
	INTO accounts, services, spends
	FROM (
		SELECT u.account_id, u.service, sum(u.amount) AS spend,
			sum(sum(u.amount)) OVER (PARTITION BY u.account_id) AS account_spend
		FROM creditmemo.utilization u
		JOIN creditmemo.member_account a ON a.account_id = u.account_id
		WHERE a.payer_account_id = predicted_allocation.payer_account_id
			AND u.service_period = predicted_allocation.service_period AND u.creditable
		GROUP BY u.account_id, u.service) s
	WHERE s.spend > 0;
	unpaid := spends;
	FOR credit IN
		SELECT c.provider_credit_id, c.owner_account_id, c.amount, m.services
		FROM (
			SELECT p.provider_credit_id, coalesce(p.owner_account_id, p.account_id) AS owner_account_id,
				-sum(p.amount) AS amount
			FROM creditmemo.provider_credit p
			WHERE p.payer_account_id = predicted_allocation.payer_account_id
				AND p.service_period = predicted_allocation.service_period
			GROUP BY 1, 2) c
		LEFT JOIN LATERAL (
			SELECT m.expires_on, m.services, m.redeemed_on
			FROM creditmemo.credit_memo m
			WHERE m.account_id = c.owner_account_id AND m.provider_credit_id = c.provider_credit_id
				AND m.voided_at IS NULL
			ORDER BY m.memo_id
			LIMIT 1) m ON true
		ORDER BY m.expires_on, cardinality(m.services), m.redeemed_on, c.owner_account_id, c.provider_credit_id
	LOOP
		place := array_position(accounts, credit.owner_account_id);
		at_owner := place IS NOT NULL;
		place := coalesce(place, 1);
		WHILE credit.amount > 0 AND place <= cardinality(accounts) LOOP
			paid := least(credit.amount, unpaid[place]);
			IF paid > 0 AND (credit.services IS NULL OR services[place] = ANY (credit.services)) THEN
				credit.amount := credit.amount - paid;
				unpaid[place] := unpaid[place] - paid;
				predicted_ids := array_append(predicted_ids, credit.provider_credit_id);
				predicted_owners := array_append(predicted_owners, credit.owner_account_id);
				predicted_places := array_append(predicted_places, place);
				predicted_amounts := array_append(predicted_amounts, paid);
			END IF;
			place := place + 1;
			IF at_owner AND accounts[place] IS DISTINCT FROM credit.owner_account_id THEN
				at_owner := false;
				place := 1;
			END IF;
		END LOOP;
	END LOOP;

	RETURN QUERY
	WITH allocated AS (
		SELECT p.provider_credit_id, p.owner_account_id, accounts[p.place] AS account_id, services[p.place] AS service,
			p.amount AS predicted, 0.00 AS actual
		FROM unnest(predicted_ids, predicted_owners, predicted_places, predicted_amounts)
			p (provider_credit_id, owner_account_id, place, amount)
		UNION ALL
		SELECT p.provider_credit_id, coalesce(p.owner_account_id, p.account_id), p.account_id, p.service, 0.00, -p.amount
		FROM creditmemo.provider_credit p
		WHERE p.payer_account_id = predicted_allocation.payer_account_id
			AND p.service_period = predicted_allocation.service_period),
	allocation AS (
		SELECT a.provider_credit_id, a.owner_account_id, a.account_id, a.service,
			round(sum(a.predicted), 2) AS predicted, round(sum(a.actual), 2) AS actual
		FROM allocated a
		GROUP BY a.provider_credit_id, a.owner_account_id, a.account_id, a.service)
	SELECT a.provider_credit_id, a.owner_account_id, a.account_id, a.service, round(coalesce(c.spend, 0), 2),
		a.predicted, a.actual,
		-- charges and credit are rounded apart: a cent says nothing
		abs(a.predicted - a.actual) > 0.01,
		CASE WHEN a.predicted = 0 THEN NULL WHEN a.account_id = a.owner_account_id THEN 'owner' ELSE 'highest spend' END
	FROM allocation a
	LEFT JOIN unnest(accounts, services, spends) c (account_id, service, spend)
		ON c.account_id = a.account_id AND c.service = a.service
	ORDER BY a.provider_credit_id, a.owner_account_id, a.account_id, a.service;
END
$$;
COMMENT ON FUNCTION creditmemo.predicted_allocation(text, date) IS
'Where AWS''s published order would send the credit that it spent in a payer''s month: to its owner''s account first, then to the account that spends most and in it to the service that costs most, beside where it went. Credits come in the order of the memos that stand for them: soonest expiry, fewest services, oldest';

CREATE FUNCTION creditmemo.money_text(amount numeric, currency text) RETURNS text
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
AS 'MODULE_PATHNAME', 'money_text_sql';
COMMENT ON FUNCTION creditmemo.money_text(numeric, text) IS
'An amount as documents show it: $1,000.00, -$100.00, EUR 1,000.00';

CREATE FUNCTION creditmemo.service_period_text(service_period date) RETURNS text
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
AS 'MODULE_PATHNAME', 'service_period_text_sql';
COMMENT ON FUNCTION creditmemo.service_period_text(date) IS
'A service period as documents show it: January 2019';

CREATE FUNCTION creditmemo.compose_email(invoice_number text, OUT subject text, OUT body_text text, OUT body_html text)
LANGUAGE c STABLE STRICT
AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION creditmemo.compose_email(text) IS
'The e-mail that submits an invoice, all of it; what the view invoice_email shows';

CREATE FUNCTION creditmemo.email_text(invoice_number text) RETURNS text
LANGUAGE sql STABLE
RETURN (creditmemo.compose_email(email_text.invoice_number)).body_text;
COMMENT ON FUNCTION creditmemo.email_text(text) IS
'The e-mail that submits an invoice, as plain text: what credit paid, what is due, and each account''s balances, as fixed when it was issued';

CREATE FUNCTION creditmemo.email_html(invoice_number text) RETURNS text
LANGUAGE sql STABLE
RETURN (creditmemo.compose_email(email_html.invoice_number)).body_html;
COMMENT ON FUNCTION creditmemo.email_html(text) IS
'The e-mail that submits an invoice, as HTML: the words and figures of email_text()';

CREATE FUNCTION creditmemo.invoice_html(invoice_number text) RETURNS text
LANGUAGE c STABLE STRICT
AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION creditmemo.invoice_html(text) IS
'An invoice as a page to print or send: HTML without script or outside resources, with the figures fixed when it was issued; void ones say so';

CREATE FUNCTION creditmemo.statement_html(account_id text, from_period date DEFAULT NULL, to_period date DEFAULT NULL,
	customer_id text DEFAULT NULL) RETURNS text
LANGUAGE c STABLE
AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION creditmemo.statement_html(text, date, date, text) IS
'Where a member account''s credit went, as a page to print or send: its memos, every movement with its invoice, and the balance by service period with a projection. Null for a period: from the first, to the last. Of the account''s customer; give another one''s id for what was his before the account moved';

CREATE FUNCTION creditmemo.statement_text(account_id text, from_period date DEFAULT NULL, to_period date DEFAULT NULL,
	customer_id text DEFAULT NULL) RETURNS text
LANGUAGE c STABLE
AS 'MODULE_PATHNAME';
COMMENT ON FUNCTION creditmemo.statement_text(text, date, date, text) IS
'What statement_html() shows, as plain text of 80 columns with a bar for each month';

-- ---------------------------------------------------------------------------------------------
-- Views
-- ---------------------------------------------------------------------------------------------

CREATE VIEW creditmemo.po_in_force AS
SELECT a.account_id, po.po_number, po.assigned_at
FROM creditmemo.member_account a
CROSS JOIN LATERAL (
	SELECT p.po_number, p.assigned_at
	FROM creditmemo.po_assignment p
	WHERE p.account_id = a.account_id AND p.assigned_at <= clock_timestamp()
	ORDER BY p.assigned_at DESC
	LIMIT 1) po;
COMMENT ON VIEW creditmemo.po_in_force IS 'The PO that each member account is assigned to now';
COMMENT ON COLUMN creditmemo.po_in_force.account_id IS 'The member account';
COMMENT ON COLUMN creditmemo.po_in_force.po_number IS 'Its purchase order number';
COMMENT ON COLUMN creditmemo.po_in_force.assigned_at IS 'In force since';

CREATE VIEW creditmemo.credit_use AS
SELECT a.account_id, usage.monthly, usage.months
FROM creditmemo.member_account a
CROSS JOIN LATERAL (
	SELECT avg(credit) AS monthly, count(*) AS months
	FROM (
		SELECT sum(b.credit) AS credit, max(b.invoice_number) AS invoice_number
		FROM creditmemo.billing b
		WHERE b.account_id = a.account_id AND b.invoice_number IS NOT NULL
		GROUP BY b.service_period
		ORDER BY b.service_period DESC
		LIMIT 3) billed_month
	WHERE a.customer_id = (
		SELECT i.customer_id
		FROM creditmemo.invoice i
		WHERE i.invoice_number = billed_month.invoice_number)) usage;
COMMENT ON VIEW creditmemo.credit_use IS 'How much credit each member account uses a month';
COMMENT ON COLUMN creditmemo.credit_use.account_id IS 'The member account';
COMMENT ON COLUMN creditmemo.credit_use.monthly IS 'Credit used on average over those of its last three billed months that its customer was billed for; null if none was';
COMMENT ON COLUMN creditmemo.credit_use.months IS 'How many months that is the mean of';

CREATE VIEW creditmemo.memo_balance AS
SELECT a.customer_id, m.account_id, m.memo_id, m.memo_number, m.credit_type, m.provider_credit_id,
	m.amount, m.amount - m.balance - coalesce(lapsed.amount, 0) AS applied, m.balance,
	CASE WHEN m.voided_at IS NOT NULL THEN 'void'
		 WHEN lapsed.expired > 0 THEN 'expired'
		 WHEN m.balance = 0 THEN 'used'
		 ELSE 'open' END AS status,
	m.redeemed_on, m.first_period, m.expires_on, m.last_period, m.services, m.priority,
	m.po_number, po.po_number AS po_number_now,
	CASE WHEN usage.monthly > 0 THEN round(m.balance / usage.monthly, 1) END AS months_left,
	m.note
FROM creditmemo.credit_memo m
JOIN creditmemo.member_account a USING (account_id)
LEFT JOIN creditmemo.po_in_force po USING (account_id)
CROSS JOIN LATERAL (
	SELECT -sum(e.amount) AS amount, -sum(e.amount) FILTER (WHERE e.entry_type <> 'void') AS expired
	FROM creditmemo.memo_entry e
	WHERE e.account_id = m.account_id AND e.memo_id = m.memo_id
		AND e.entry_type IN ('void', 'expire', 'restore')
		AND (m.voided_at IS NOT NULL OR m.last_period <= a.closed_through)) lapsed
LEFT JOIN LATERAL (
	SELECT u.monthly
	FROM creditmemo.credit_use u
	WHERE u.account_id = m.account_id) usage ON m.balance > 0;
COMMENT ON VIEW creditmemo.memo_balance IS 'Each credit memo: what it was issued for, what it has paid, what is left and how long that will last';
COMMENT ON COLUMN creditmemo.memo_balance.customer_id IS 'The account''s customer';
COMMENT ON COLUMN creditmemo.memo_balance.account_id IS 'The member account that owns the credit';
COMMENT ON COLUMN creditmemo.memo_balance.memo_id IS 'Id of the memo';
COMMENT ON COLUMN creditmemo.memo_balance.memo_number IS 'Number as it stands on documents';
COMMENT ON COLUMN creditmemo.memo_balance.credit_type IS 'PROMO, DEFW or a type of your own';
COMMENT ON COLUMN creditmemo.memo_balance.provider_credit_id IS 'AWS''s id of the credit this memo stands for';
COMMENT ON COLUMN creditmemo.memo_balance.amount IS 'What the memo was issued for';
COMMENT ON COLUMN creditmemo.memo_balance.applied IS 'What it has paid, on open and invoiced billings';
COMMENT ON COLUMN creditmemo.memo_balance.balance IS 'What is left of it';
COMMENT ON COLUMN creditmemo.memo_balance.status IS 'open, used, void or expired';
COMMENT ON COLUMN creditmemo.memo_balance.redeemed_on IS 'Day the credit was redeemed with AWS';
COMMENT ON COLUMN creditmemo.memo_balance.first_period IS 'First service period it may pay';
COMMENT ON COLUMN creditmemo.memo_balance.expires_on IS 'The day it expires; usage of that whole month is still paid. Null: never';
COMMENT ON COLUMN creditmemo.memo_balance.last_period IS 'Last service period it may pay; null if it never expires';
COMMENT ON COLUMN creditmemo.memo_balance.services IS 'The only services it may pay; null: all';
COMMENT ON COLUMN creditmemo.memo_balance.priority IS 'Lower is spent first';
COMMENT ON COLUMN creditmemo.memo_balance.po_number IS 'The PO that the memo carries';
COMMENT ON COLUMN creditmemo.memo_balance.po_number_now IS 'The PO that the account is assigned to now';
COMMENT ON COLUMN creditmemo.memo_balance.months_left IS 'This memo''s balance divided by all the credit that the account used on average over its last three billed months; null if it used none';
COMMENT ON COLUMN creditmemo.memo_balance.note IS 'The memo''s note';

CREATE VIEW creditmemo.memo_statement AS
SELECT e.account_id, e.memo_id, m.memo_number, e.entry_no, e.entry_type, e.amount, e.balance_after,
	e.service_period, e.billing_no, e.service, coalesce(b.invoice_number, f.invoice_number) AS invoice_number,
	e.reverses, e.recorded_at
FROM creditmemo.memo_entry e
JOIN creditmemo.credit_memo m USING (account_id, memo_id)
LEFT JOIN creditmemo.billing b USING (account_id, service_period, billing_no)
LEFT JOIN creditmemo.billing f ON f.account_id = b.account_id
	AND f.service_period = b.service_period AND f.billing_no = b.folded_into;
COMMENT ON VIEW creditmemo.memo_statement IS 'Every movement of every memo, with what it paid and the running balance';
COMMENT ON COLUMN creditmemo.memo_statement.account_id IS 'The member account';
COMMENT ON COLUMN creditmemo.memo_statement.memo_id IS 'The memo';
COMMENT ON COLUMN creditmemo.memo_statement.memo_number IS 'Its number';
COMMENT ON COLUMN creditmemo.memo_statement.entry_no IS '1, 2, 3, ... within the memo';
COMMENT ON COLUMN creditmemo.memo_statement.entry_type IS 'issue, apply, release, void, expire or restore';
COMMENT ON COLUMN creditmemo.memo_statement.amount IS 'Signed, as it moves the balance';
COMMENT ON COLUMN creditmemo.memo_statement.balance_after IS 'The memo''s balance after this entry';
COMMENT ON COLUMN creditmemo.memo_statement.service_period IS 'Month of usage that was paid, or gave back';
COMMENT ON COLUMN creditmemo.memo_statement.billing_no IS 'Number of the billing of that month';
COMMENT ON COLUMN creditmemo.memo_statement.service IS 'The service, where the memo is limited to services';
COMMENT ON COLUMN creditmemo.memo_statement.invoice_number IS 'The invoice that the billing is on; null while it is open';
COMMENT ON COLUMN creditmemo.memo_statement.reverses IS 'The entry that a release undoes';
COMMENT ON COLUMN creditmemo.memo_statement.recorded_at IS 'When it was written';

CREATE VIEW creditmemo.credit_movement AS
SELECT s.account_id,
	/*
	 * An account moves to another customer only when its memos are used up, void or expired.  So a memo
	 * that has paid something was that customer's who was billed for it, and one with a balance is the
	 * customer's of now.  Of one that never paid anything nothing is known once the account has moved.
	 */
	coalesce(max(i.customer_id) OVER memo,
		CASE WHEN m.balance > 0 OR max(s.service_period) OVER memo IS NOT NULL OR NOT EXISTS (
			SELECT FROM creditmemo.billing b
			JOIN creditmemo.invoice other ON other.invoice_number = b.invoice_number
			WHERE b.account_id = s.account_id AND other.customer_id <> a.customer_id)
		THEN a.customer_id END) AS customer_id,
	s.recorded_at, s.memo_id, s.memo_number, s.entry_no, s.entry_type,
	CASE WHEN s.entry_type IN ('expire', 'restore') AND m.last_period IS NOT NULL THEN m.last_period
		 ELSE coalesce(s.service_period, max(
			CASE WHEN s.entry_type IN ('expire', 'restore') THEN coalesce(m.last_period, m.first_period)
				 ELSE coalesce(s.service_period, m.first_period) END)
			OVER (memo ORDER BY s.entry_no)) END AS statement_period,
	s.service_period, s.billing_no, s.service, s.invoice_number, s.amount,
	CASE WHEN s.entry_type = 'issue' THEN s.amount ELSE 0.00 END AS issued,
	CASE WHEN s.entry_type IN ('apply', 'release') THEN s.amount ELSE 0.00 END AS used,
	CASE WHEN s.entry_type IN ('void', 'expire', 'restore') THEN s.amount ELSE 0.00 END AS lapsed
FROM creditmemo.memo_statement s
JOIN creditmemo.credit_memo m USING (account_id, memo_id)
JOIN creditmemo.member_account a USING (account_id)
LEFT JOIN creditmemo.invoice i ON i.invoice_number = s.invoice_number
WINDOW memo AS (PARTITION BY s.account_id, s.memo_id);
COMMENT ON VIEW creditmemo.credit_movement IS 'Every movement of each member account''s credit, with the month that it counts in on statements. Ask by account';
COMMENT ON COLUMN creditmemo.credit_movement.account_id IS 'The member account';
COMMENT ON COLUMN creditmemo.credit_movement.customer_id IS 'The customer whose credit it was: of a moved account the one who was billed for what it paid, null where it paid nothing';
COMMENT ON COLUMN creditmemo.credit_movement.recorded_at IS 'When it was written; movements are ordered by this, memo_id and entry_no';
COMMENT ON COLUMN creditmemo.credit_movement.memo_id IS 'The memo';
COMMENT ON COLUMN creditmemo.credit_movement.memo_number IS 'Its number';
COMMENT ON COLUMN creditmemo.credit_movement.entry_no IS '1, 2, 3, ... within the memo';
COMMENT ON COLUMN creditmemo.credit_movement.entry_type IS 'issue, apply, release, void, expire or restore';
COMMENT ON COLUMN creditmemo.credit_movement.statement_period IS 'The month that it counts in: of what was paid or given back; of issue the memo''s first period, of expire and restore its last, of void the latest month that the memo had to do with';
COMMENT ON COLUMN creditmemo.credit_movement.service_period IS 'Month of usage that was paid, or gave back';
COMMENT ON COLUMN creditmemo.credit_movement.billing_no IS 'Number of the billing of that month';
COMMENT ON COLUMN creditmemo.credit_movement.service IS 'The service, where the memo is limited to services';
COMMENT ON COLUMN creditmemo.credit_movement.invoice_number IS 'The invoice that the billing is on; null while it is open';
COMMENT ON COLUMN creditmemo.credit_movement.amount IS 'Signed, as it moves the balance';
COMMENT ON COLUMN creditmemo.credit_movement.issued IS 'The amount if the memo was issued, or zero';
COMMENT ON COLUMN creditmemo.credit_movement.used IS 'The amount if it was applied or released, or zero';
COMMENT ON COLUMN creditmemo.credit_movement.lapsed IS 'The amount if the memo was voided, expired or restored, or zero';

CREATE VIEW creditmemo.credit_month AS
SELECT account_id, customer_id, statement_period,
	sum(issued) AS issued, sum(used) AS used, sum(lapsed) AS lapsed, sum(amount) AS change
FROM creditmemo.credit_movement
GROUP BY account_id, customer_id, statement_period;
COMMENT ON VIEW creditmemo.credit_month IS 'What each month changed of each member account''s credit; the balance at the end of a month is the sum up to it';
COMMENT ON COLUMN creditmemo.credit_month.account_id IS 'The member account';
COMMENT ON COLUMN creditmemo.credit_month.customer_id IS 'The customer whose credit it was, see credit_movement';
COMMENT ON COLUMN creditmemo.credit_month.statement_period IS 'The month that the movements count in (first day)';
COMMENT ON COLUMN creditmemo.credit_month.issued IS 'Memos issued';
COMMENT ON COLUMN creditmemo.credit_month.used IS 'Applied to utilization, less what was released: negative where more was applied';
COMMENT ON COLUMN creditmemo.credit_month.lapsed IS 'Void or expired, less what was restored: negative where more lapsed';
COMMENT ON COLUMN creditmemo.credit_month.change IS 'All of it';

CREATE VIEW creditmemo.account_balance AS
SELECT a.customer_id, a.account_id, a.name, c.currency,
	memos.available, open.pending, memos.available + open.pending AS invoiced_balance
FROM creditmemo.member_account a
JOIN creditmemo.customer c USING (customer_id)
CROSS JOIN LATERAL (
	SELECT coalesce(sum(m.balance), 0.00) AS available
	FROM creditmemo.credit_memo m
	WHERE m.account_id = a.account_id) memos
CROSS JOIN LATERAL (
	SELECT coalesce(sum(b.credit), 0.00) AS pending
	FROM creditmemo.billing b
	WHERE b.account_id = a.account_id AND b.invoice_number IS NULL AND b.folded_into IS NULL) open;
COMMENT ON VIEW creditmemo.account_balance IS 'Each member account''s credit';
COMMENT ON COLUMN creditmemo.account_balance.customer_id IS 'The account''s customer';
COMMENT ON COLUMN creditmemo.account_balance.account_id IS 'The member account';
COMMENT ON COLUMN creditmemo.account_balance.name IS 'Its name';
COMMENT ON COLUMN creditmemo.account_balance.currency IS 'Currency of the amounts';
COMMENT ON COLUMN creditmemo.account_balance.available IS 'Balances of all its memos';
COMMENT ON COLUMN creditmemo.account_balance.pending IS 'Applied to billings that are not invoiced yet';
COMMENT ON COLUMN creditmemo.account_balance.invoiced_balance IS 'Available and pending: the balance before what is open; for an invoiced account what the customer was last told';

CREATE VIEW creditmemo.unbilled AS
SELECT a.customer_id, b.account_id, b.service_period, b.billing_no, po.po_number, c.currency,
	b.utilization, b.credit, b.due,
	balance.invoiced_balance AS prior_balance,
	balance.invoiced_balance - b.credit AS balance_after
FROM creditmemo.billing b
JOIN creditmemo.member_account a USING (account_id)
JOIN creditmemo.customer c USING (customer_id)
JOIN creditmemo.account_balance balance USING (account_id)
LEFT JOIN creditmemo.po_in_force po USING (account_id)
WHERE b.invoice_number IS NULL AND b.folded_into IS NULL
	AND (b.credit <> 0 OR EXISTS (
		SELECT FROM creditmemo.utilization u
		WHERE u.service_period = b.service_period AND u.account_id = b.account_id
			AND u.billing_no = b.billing_no));
COMMENT ON VIEW creditmemo.unbilled IS 'Open billings with lines or credit: what the next invoice would say if it were issued now';
COMMENT ON COLUMN creditmemo.unbilled.customer_id IS 'Whom to invoice';
COMMENT ON COLUMN creditmemo.unbilled.account_id IS 'The member account';
COMMENT ON COLUMN creditmemo.unbilled.service_period IS 'Month of usage (first day)';
COMMENT ON COLUMN creditmemo.unbilled.billing_no IS '1, or more for a supplementary billing';
COMMENT ON COLUMN creditmemo.unbilled.po_number IS 'The PO that the account is assigned to now';
COMMENT ON COLUMN creditmemo.unbilled.currency IS 'Currency of the amounts';
COMMENT ON COLUMN creditmemo.unbilled.utilization IS 'Sum of the lines';
COMMENT ON COLUMN creditmemo.unbilled.credit IS 'Credit applied; negative where a refund gives credit back';
COMMENT ON COLUMN creditmemo.unbilled.due IS 'Utilization less credit';
COMMENT ON COLUMN creditmemo.unbilled.prior_balance IS 'The account''s credit before this billing';
COMMENT ON COLUMN creditmemo.unbilled.balance_after IS 'The account''s credit left for future use';

CREATE VIEW creditmemo.invoice_body AS
SELECT i.invoice_number, b.account_id, b.account_name, b.service_period, b.billing_no, b.po_number,
	c.currency, b.utilization, -b.credit AS credit_applied, b.due, b.prior_balance,
	b.balance_after AS balance_of_funds, i.voided_at
FROM creditmemo.invoice i
JOIN creditmemo.customer c USING (customer_id)
JOIN (
	SELECT invoice_number, account_id, account_name, service_period, billing_no, po_number, utilization,
		credit, due, prior_balance, balance_after
	FROM creditmemo.billing
	UNION ALL
	SELECT invoice_number, account_id, account_name, service_period, billing_no, po_number, utilization,
		credit, due, prior_balance, balance_after
	FROM creditmemo.voided_billing) b USING (invoice_number);
COMMENT ON VIEW creditmemo.invoice_body IS 'Each member account on each invoice: its utilization, the credit that it owns and used, what is due. Voided invoices are in it as they were';
COMMENT ON COLUMN creditmemo.invoice_body.invoice_number IS 'The invoice';
COMMENT ON COLUMN creditmemo.invoice_body.account_id IS 'The member account';
COMMENT ON COLUMN creditmemo.invoice_body.account_name IS 'The name that the account had when it was invoiced';
COMMENT ON COLUMN creditmemo.invoice_body.service_period IS 'Month of usage (first day)';
COMMENT ON COLUMN creditmemo.invoice_body.billing_no IS '1, or more for a supplementary billing';
COMMENT ON COLUMN creditmemo.invoice_body.po_number IS 'The PO that the account had when it was invoiced';
COMMENT ON COLUMN creditmemo.invoice_body.currency IS 'Currency of the amounts';
COMMENT ON COLUMN creditmemo.invoice_body.utilization IS 'What the account used';
COMMENT ON COLUMN creditmemo.invoice_body.credit_applied IS 'Its own credit, as a negative amount; zero if it owns none; positive where a refund gave credit back';
COMMENT ON COLUMN creditmemo.invoice_body.due IS 'Utilization and credit applied';
COMMENT ON COLUMN creditmemo.invoice_body.prior_balance IS 'The account''s credit before this invoice';
COMMENT ON COLUMN creditmemo.invoice_body.balance_of_funds IS 'The account''s credit left for future use';
COMMENT ON COLUMN creditmemo.invoice_body.voided_at IS 'When the invoice was voided; leave those out of sums';

CREATE VIEW creditmemo.invoice_face AS
SELECT i.invoice_number, i.customer_id, i.customer_name, i.customer_address, i.service_period,
	i.invoice_date, i.due_date, billed.po_numbers, c.currency, billed.accounts,
	CASE WHEN billed.accounts > 1 THEN 'multiple' ELSE 'single' END AS scope,
	billed.total_utilization, billed.credit_applied, billed.balance_due, billed.prior_balance,
	billed.balance_of_funds, i.voided_at, i.void_reason
FROM creditmemo.invoice i
JOIN creditmemo.customer c USING (customer_id)
JOIN LATERAL (
	SELECT count(*) AS accounts, coalesce(sum(b.utilization), 0.00) AS total_utilization,
		coalesce(sum(b.credit_applied), 0.00) AS credit_applied, coalesce(sum(b.due), 0.00) AS balance_due,
		coalesce(sum(b.prior_balance), 0.00) AS prior_balance,
		coalesce(sum(b.balance_of_funds), 0.00) AS balance_of_funds,
		string_agg(DISTINCT b.po_number COLLATE "C", ', ') AS po_numbers
	FROM creditmemo.invoice_body b
	WHERE b.invoice_number = i.invoice_number) billed ON true;
COMMENT ON VIEW creditmemo.invoice_face IS 'Each invoice''s face: total utilization, credit applied, balance due. Voided invoices are in it as they were';
COMMENT ON COLUMN creditmemo.invoice_face.invoice_number IS 'The invoice';
COMMENT ON COLUMN creditmemo.invoice_face.customer_id IS 'Whom it bills';
COMMENT ON COLUMN creditmemo.invoice_face.customer_name IS 'The customer''s name when it was issued';
COMMENT ON COLUMN creditmemo.invoice_face.customer_address IS 'The customer''s address when it was issued';
COMMENT ON COLUMN creditmemo.invoice_face.service_period IS 'Month of usage (first day)';
COMMENT ON COLUMN creditmemo.invoice_face.invoice_date IS 'Date of the invoice';
COMMENT ON COLUMN creditmemo.invoice_face.due_date IS 'When the balance is due';
COMMENT ON COLUMN creditmemo.invoice_face.po_numbers IS 'The POs of its accounts when they were invoiced, separated by commas';
COMMENT ON COLUMN creditmemo.invoice_face.currency IS 'Currency of the amounts';
COMMENT ON COLUMN creditmemo.invoice_face.accounts IS 'How many member accounts it bills';
COMMENT ON COLUMN creditmemo.invoice_face.scope IS 'single: the credit shows on the face; multiple: in the body, against its own account alone';
COMMENT ON COLUMN creditmemo.invoice_face.total_utilization IS 'What the accounts used';
COMMENT ON COLUMN creditmemo.invoice_face.credit_applied IS 'Credit of those accounts that own some, as a negative amount';
COMMENT ON COLUMN creditmemo.invoice_face.balance_due IS 'Total utilization and credit applied';
COMMENT ON COLUMN creditmemo.invoice_face.prior_balance IS 'The accounts'' credit before this invoice';
COMMENT ON COLUMN creditmemo.invoice_face.balance_of_funds IS 'The accounts'' credit left for future use';
COMMENT ON COLUMN creditmemo.invoice_face.voided_at IS 'When the invoice was voided; leave those out of sums';
COMMENT ON COLUMN creditmemo.invoice_face.void_reason IS 'Why it was voided';

CREATE VIEW creditmemo.invoice_line AS
SELECT b.invoice_number, b.account_id, u.service, round(sum(u.amount), 2) AS utilization,
	round(coalesce(sum(u.amount) FILTER (WHERE u.creditable), 0), 2) AS creditable, count(*) AS lines,
	NULL::timestamptz AS voided_at
FROM creditmemo.billing b
JOIN creditmemo.utilization u USING (service_period, account_id, billing_no)
WHERE b.invoice_number IS NOT NULL
GROUP BY b.invoice_number, b.account_id, u.service
UNION ALL
SELECT l.invoice_number, l.account_id, l.service, l.utilization, l.creditable, l.lines, i.voided_at
FROM creditmemo.voided_line l
JOIN creditmemo.invoice i USING (invoice_number);
COMMENT ON VIEW creditmemo.invoice_line IS 'Each invoice''s utilization by account and service. Voided invoices are in it as they were';
COMMENT ON COLUMN creditmemo.invoice_line.invoice_number IS 'The invoice';
COMMENT ON COLUMN creditmemo.invoice_line.account_id IS 'The member account';
COMMENT ON COLUMN creditmemo.invoice_line.service IS 'The service';
COMMENT ON COLUMN creditmemo.invoice_line.utilization IS 'What the account used of it';
COMMENT ON COLUMN creditmemo.invoice_line.creditable IS 'What of that credit may pay';
COMMENT ON COLUMN creditmemo.invoice_line.lines IS 'From how many lines';
COMMENT ON COLUMN creditmemo.invoice_line.voided_at IS 'When the invoice was voided; leave those out of sums';

CREATE VIEW creditmemo.invoice_email AS
SELECT i.invoice_number, i.customer_id, i.service_period, c.email AS recipient, e.subject, e.body_text, e.body_html, i.voided_at
FROM creditmemo.invoice i
JOIN creditmemo.customer c USING (customer_id)
CROSS JOIN LATERAL creditmemo.compose_email(i.invoice_number) e;
COMMENT ON VIEW creditmemo.invoice_email IS 'The e-mail that submits each invoice. It is composed with the rights of whoever asks';
COMMENT ON COLUMN creditmemo.invoice_email.invoice_number IS 'The invoice';
COMMENT ON COLUMN creditmemo.invoice_email.customer_id IS 'Whom it bills';
COMMENT ON COLUMN creditmemo.invoice_email.service_period IS 'Month of usage (first day)';
COMMENT ON COLUMN creditmemo.invoice_email.recipient IS 'The customer''s e-mail address; null if none is known';
COMMENT ON COLUMN creditmemo.invoice_email.subject IS 'Subject line';
COMMENT ON COLUMN creditmemo.invoice_email.body_text IS 'Plain text, amounts right-aligned in a fixed-width font';
COMMENT ON COLUMN creditmemo.invoice_email.body_html IS 'The same as HTML';
COMMENT ON COLUMN creditmemo.invoice_email.voided_at IS 'When the invoice was voided: nothing to send any more';

CREATE VIEW creditmemo.credit_reconciliation AS
WITH movement AS (
	SELECT p.payer_account_id, p.account_id, p.service_period, -p.amount AS aws_applied, 0 AS aws_owned,
		CASE WHEN p.owner_account_id <> p.account_id THEN -p.amount ELSE 0 END AS spill_in, 0 AS spill_out,
		0 AS memo_applied
	FROM creditmemo.provider_credit p
	UNION ALL
	SELECT p.payer_account_id, coalesce(p.owner_account_id, p.account_id), p.service_period, 0, -p.amount, 0,
		CASE WHEN p.owner_account_id <> p.account_id THEN p.amount ELSE 0 END, 0
	FROM creditmemo.provider_credit p
	UNION ALL
	SELECT coalesce(b.payer_account_id, a.payer_account_id), b.account_id, b.service_period, 0, 0, 0, 0, b.credit
	FROM creditmemo.billing b
	JOIN creditmemo.member_account a USING (account_id)
	WHERE b.credit <> 0)
SELECT r.payer_account_id, r.account_id, a.name AS account_name, a.customer_id, r.service_period, r.aws_applied,
	r.aws_owned, r.spill_in, r.spill_out, r.memo_applied, r.aws_owned - r.memo_applied AS difference,
	sum(r.aws_owned - r.memo_applied) OVER (PARTITION BY r.account_id ORDER BY r.service_period, r.payer_account_id)
		AS difference_to_date
FROM (
	SELECT m.payer_account_id, m.account_id, m.service_period, round(sum(m.aws_applied), 2) AS aws_applied,
		round(sum(m.aws_owned), 2) AS aws_owned, round(sum(m.spill_in), 2) AS spill_in,
		round(sum(m.spill_out), 2) AS spill_out, round(sum(m.memo_applied), 2) AS memo_applied
	FROM movement m
	GROUP BY m.payer_account_id, m.account_id, m.service_period) r
LEFT JOIN creditmemo.member_account a USING (account_id);
COMMENT ON VIEW creditmemo.credit_reconciliation IS 'What AWS did with its credit beside what our memos did, for each payer, account and month in which either did anything. Credit is positive';
COMMENT ON COLUMN creditmemo.credit_reconciliation.payer_account_id IS 'The payer on whose bill AWS applied it; of what our memos applied, the account''s payer when that was invoiced, or now';
COMMENT ON COLUMN creditmemo.credit_reconciliation.account_id IS 'The account that got AWS''s credit, owns it, or has a memo. An owner need not be in member_account';
COMMENT ON COLUMN creditmemo.credit_reconciliation.account_name IS 'Its name';
COMMENT ON COLUMN creditmemo.credit_reconciliation.customer_id IS 'Its customer';
COMMENT ON COLUMN creditmemo.credit_reconciliation.service_period IS 'Month of usage (first day)';
COMMENT ON COLUMN creditmemo.credit_reconciliation.aws_applied IS 'AWS''s credit that the account got: what it owned and what spilled to and from others';
COMMENT ON COLUMN creditmemo.credit_reconciliation.aws_owned IS 'AWS''s credit of the account that was used, by whichever account. Where AWS names no owner it is the account that got it';
COMMENT ON COLUMN creditmemo.credit_reconciliation.spill_in IS 'Credit of other accounts that this one got';
COMMENT ON COLUMN creditmemo.credit_reconciliation.spill_out IS 'Credit of this account that others got: negative, so that spill in and out sum to zero within payer and period';
COMMENT ON COLUMN creditmemo.credit_reconciliation.memo_applied IS 'What the account''s memos paid, less what was released';
COMMENT ON COLUMN creditmemo.credit_reconciliation.difference IS 'What AWS gave us for the account and its memos have not passed on, in this period; negative where they paid ahead of AWS';
COMMENT ON COLUMN creditmemo.credit_reconciliation.difference_to_date IS 'The same from the account''s first period through this one, over all its payers: above zero, what AWS has given us and our memos have not passed on';

CREATE VIEW creditmemo.memo_provider_credit AS
SELECT account_id, provider_credit_id, m.memo_numbers, coalesce(m.amount, 0.00) AS memos_amount,
	coalesce(m.applied, 0.00) AS memos_applied, coalesce(p.applied, 0.00) AS aws_applied,
	coalesce(m.amount, 0.00) - coalesce(p.applied, 0.00) AS not_yet_applied,
	CASE WHEN p.applied IS NULL THEN 'no AWS credit'
		 WHEN m.amount IS NULL THEN 'no memo'
		 WHEN p.applied > m.amount THEN 'AWS applied more'
		 WHEN p.applied < m.amount THEN 'AWS applied less'
		 ELSE 'equal' END AS finding
FROM (
	SELECT m.account_id, m.provider_credit_id, array_agg(m.memo_number ORDER BY m.memo_id) AS memo_numbers,
		round(sum(m.amount), 2) AS amount, round(sum(moved.applied), 2) AS applied
	FROM creditmemo.credit_memo m
	CROSS JOIN LATERAL (
		SELECT coalesce(-sum(e.amount), 0.00) AS applied
		FROM creditmemo.memo_entry e
		WHERE e.account_id = m.account_id AND e.memo_id = m.memo_id AND e.entry_type IN ('apply', 'release')) moved
	WHERE m.voided_at IS NULL
	GROUP BY m.account_id, m.provider_credit_id) m
FULL JOIN (
	SELECT coalesce(p.owner_account_id, p.account_id) AS account_id, p.provider_credit_id, round(-sum(p.amount), 2) AS applied
	FROM creditmemo.provider_credit p
	GROUP BY 1, 2) p USING (account_id, provider_credit_id);
COMMENT ON VIEW creditmemo.memo_provider_credit IS 'Each AWS credit and the memos that stand for it: memos without AWS credit, AWS credit without a memo, amounts that differ. Void memos are left out';
COMMENT ON COLUMN creditmemo.memo_provider_credit.account_id IS 'The account that owns the credit, with AWS and in our memos';
COMMENT ON COLUMN creditmemo.memo_provider_credit.provider_credit_id IS 'AWS''s id of the credit, or its name on imported bills; null: memos that name none, AWS credit that has none';
COMMENT ON COLUMN creditmemo.memo_provider_credit.memo_numbers IS 'The memos that stand for it';
COMMENT ON COLUMN creditmemo.memo_provider_credit.memos_amount IS 'What they were issued for';
COMMENT ON COLUMN creditmemo.memo_provider_credit.memos_applied IS 'What they have paid';
COMMENT ON COLUMN creditmemo.memo_provider_credit.aws_applied IS 'What AWS has applied of its credit so far, to whichever account';
COMMENT ON COLUMN creditmemo.memo_provider_credit.not_yet_applied IS 'What the memos were issued for less what AWS has applied';
COMMENT ON COLUMN creditmemo.memo_provider_credit.finding IS 'no AWS credit, no memo, AWS applied more (than the memos were issued for), AWS applied less (so far), equal';

CREATE VIEW creditmemo.credit_liability AS
SELECT a.customer_id, c.name AS customer_name, c.currency, m.po_number, count(*) AS memos,
	round(sum(m.balance), 2) AS open_credit,
	round(coalesce(sum(m.balance) FILTER (WHERE m.redeemed_on >= current_date - 90), 0), 2) AS age_to_90_days,
	round(coalesce(sum(m.balance) FILTER (WHERE m.redeemed_on >= current_date - 180 AND m.redeemed_on < current_date - 90), 0), 2) AS age_to_180_days,
	round(coalesce(sum(m.balance) FILTER (WHERE m.redeemed_on >= current_date - 365 AND m.redeemed_on < current_date - 180), 0), 2) AS age_to_365_days,
	round(coalesce(sum(m.balance) FILTER (WHERE m.redeemed_on < current_date - 365), 0), 2) AS age_over_365_days,
	round(coalesce(sum(m.balance) FILTER (WHERE m.expires_on < current_date), 0), 2) AS ended,
	round(coalesce(sum(m.balance) FILTER (WHERE m.expires_on >= current_date AND m.expires_on <= current_date + 90), 0), 2) AS ends_in_90_days,
	round(coalesce(sum(m.balance) FILTER (WHERE m.expires_on > current_date + 90), 0), 2) AS ends_later,
	round(coalesce(sum(m.balance) FILTER (WHERE m.expires_on IS NULL), 0), 2) AS never_ends
FROM creditmemo.credit_memo m
JOIN creditmemo.member_account a USING (account_id)
JOIN creditmemo.customer c USING (customer_id)
WHERE m.balance > 0
GROUP BY a.customer_id, c.name, c.currency, m.po_number;
COMMENT ON VIEW creditmemo.credit_liability IS 'Open credit owed to each customer, by the PO of the memos: in all, by age, and by expiry, as of today';
COMMENT ON COLUMN creditmemo.credit_liability.customer_id IS 'Whom we owe it';
COMMENT ON COLUMN creditmemo.credit_liability.customer_name IS 'Name of the customer';
COMMENT ON COLUMN creditmemo.credit_liability.currency IS 'Currency of the amounts';
COMMENT ON COLUMN creditmemo.credit_liability.po_number IS 'The PO that the memos carry';
COMMENT ON COLUMN creditmemo.credit_liability.memos IS 'Memos that have a balance';
COMMENT ON COLUMN creditmemo.credit_liability.open_credit IS 'Their balances';
COMMENT ON COLUMN creditmemo.credit_liability.age_to_90_days IS 'Of memos redeemed in the last 90 days';
COMMENT ON COLUMN creditmemo.credit_liability.age_to_180_days IS 'Of memos redeemed 91 to 180 days ago';
COMMENT ON COLUMN creditmemo.credit_liability.age_to_365_days IS 'Of memos redeemed 181 to 365 days ago';
COMMENT ON COLUMN creditmemo.credit_liability.age_over_365_days IS 'Of memos redeemed before that';
COMMENT ON COLUMN creditmemo.credit_liability.ended IS 'Of memos that have expired but whose last month is not closed: late utilization of it could still use it';
COMMENT ON COLUMN creditmemo.credit_liability.ends_in_90_days IS 'Of memos that expire within 90 days';
COMMENT ON COLUMN creditmemo.credit_liability.ends_later IS 'Of memos that expire after that';
COMMENT ON COLUMN creditmemo.credit_liability.never_ends IS 'Of memos that never expire';

-- ---------------------------------------------------------------------------------------------
-- Verification
-- ---------------------------------------------------------------------------------------------

CREATE FUNCTION creditmemo.verify()
RETURNS TABLE (problem text, account_id text, detail text)
LANGUAGE sql STABLE
-- whole tables are compared: what is known of their statistics must not mislead
SET enable_nestloop = off
SET enable_mergejoin = off
SET jit = off
SET work_mem = '64MB'
BEGIN ATOMIC
	WITH entry AS MATERIALIZED (
		-- the ledger: each entry with the one before it, its memo and the billing that it counts for
		SELECT e.account_id, e.memo_id, m.memo_number, e.entry_no, e.entry_type, e.amount,
			e.balance_after, e.service_period, coalesce(f.folded_into, e.billing_no) AS billing_no,
			e.service, e.reverses, e.recorded_at, before.entry_no AS no_before,
			before.balance_after AS balance_before, before.recorded_at AS recorded_before,
			e.service_period < m.first_period AS is_too_early,
			e.service_period > m.last_period AS is_too_late,
			m.voided_at,
			(m.services IS NULL) <> (e.service IS NULL)
				OR coalesce(e.service <> ALL (m.services), false) AS is_other_service
		FROM creditmemo.memo_entry e
		LEFT JOIN creditmemo.memo_entry before ON before.account_id = e.account_id
			AND before.memo_id = e.memo_id AND before.entry_no = e.entry_no - 1
		LEFT JOIN creditmemo.credit_memo m ON m.account_id = e.account_id AND m.memo_id = e.memo_id
		LEFT JOIN (
			SELECT b.account_id, b.service_period, b.billing_no, b.folded_into
			FROM creditmemo.billing b
			WHERE b.folded_into IS NOT NULL) f ON f.account_id = e.account_id
			AND f.service_period = e.service_period AND f.billing_no = e.billing_no
	), memo AS MATERIALIZED (
		SELECT m.account_id, m.memo_id, m.memo_number, m.amount, m.balance, m.entries, m.po_number,
			m.first_period, m.last_period, m.services, m.voided_at IS NOT NULL AS is_void, m.void_reason,
			a.account_id IS NOT NULL AS has_account, a.closed_through,
			coalesce(m.last_period <= a.closed_through, false) AS has_ended,
			coalesce(e.entries, 0) AS entries_found,
			coalesce(e.issued, 0) AS issued, coalesce(e.applied, 0) AS applied,
			coalesce(e.written_off, 0) AS written_off, coalesce(e.expired, 0) AS expired
		FROM creditmemo.credit_memo m
		LEFT JOIN creditmemo.member_account a ON a.account_id = m.account_id
		LEFT JOIN (
			SELECT e.account_id, e.memo_id, count(*) AS entries,
				sum(e.amount) FILTER (WHERE e.entry_type = 'issue') AS issued,
				-sum(e.amount) FILTER (WHERE e.entry_type IN ('apply', 'release')) AS applied,
				-sum(e.amount) FILTER (WHERE e.entry_type = 'void') AS written_off,
				-sum(e.amount) FILTER (WHERE e.entry_type IN ('expire', 'restore')) AS expired
			FROM entry e
			GROUP BY e.account_id, e.memo_id) e ON e.account_id = m.account_id AND e.memo_id = m.memo_id
	), undone AS MATERIALIZED (
		-- releases, each with what it undoes
		SELECT r.account_id, r.memo_id, r.memo_number, r.entry_no, r.amount, r.service_period,
			r.billing_no, r.service, r.reverses,
			coalesce(e.entry_type = 'apply', false) AS is_application, -e.amount AS applied,
			e.service_period AS paid_period, e.billing_no AS paid_billing_no, e.service AS paid_service
		FROM entry r
		LEFT JOIN entry e ON e.account_id = r.account_id AND e.memo_id = r.memo_id
			AND e.entry_no = r.reverses
		WHERE r.entry_type = 'release'
	), released AS (
		SELECT r.account_id, r.memo_id, r.memo_number, r.reverses AS entry_no,
			max(r.applied) AS applied, sum(r.amount) AS released
		FROM undone r
		WHERE r.is_application
		GROUP BY r.account_id, r.memo_id, r.memo_number, r.reverses
	), billing AS MATERIALIZED (
		-- billings, each with its lines, its entries, its invoice, and those before it in its period
		SELECT account_id, service_period, billing_no, b.account_id IS NOT NULL AS has_billing,
			b.account_id IS NOT NULL AND b.invoice_number IS NULL AND b.folded_into IS NULL AS is_open,
			b.utilization, b.creditable, b.credit, b.folded_into, b.invoice_number, b.prior_balance,
			b.balance_after, b.place, b.first_open_no, b.not_folded_no, b.period_creditable,
			b.period_credit,
			coalesce(r.lines, 0) AS lines, coalesce(r.creditable, 0) AS lines_creditable,
			coalesce(r.creditable, 0) + coalesce(r.not_creditable, 0) AS lines_utilization,
			coalesce(r.credit, 0) AS entries_credit, r.last_line_at, r.last_entry_at,
			a.customer_id, a.closed_through, i.invoiced_customer_id, i.invoiced_period, i.invoiced_at,
			i.voided_at
		FROM (
			SELECT b.account_id, b.service_period, b.billing_no, b.utilization, b.creditable, b.credit,
				b.folded_into, b.invoice_number, b.prior_balance, b.balance_after,
				row_number() OVER period AS place,
				min(b.billing_no) FILTER (WHERE b.invoice_number IS NULL AND b.folded_into IS NULL)
					OVER period AS first_open_no,
				max(b.billing_no) FILTER (WHERE b.folded_into IS NULL) OVER period AS not_folded_no,
				sum(b.creditable) OVER period AS period_creditable,
				sum(b.credit) OVER period AS period_credit
			FROM creditmemo.billing b
			WINDOW period AS (PARTITION BY b.account_id, b.service_period ORDER BY b.billing_no
							  ROWS UNBOUNDED PRECEDING)) b
		FULL JOIN (
			SELECT r.account_id, r.service_period, r.billing_no,
				sum(r.amount) FILTER (WHERE r.creditable) AS creditable,
				sum(r.amount) FILTER (WHERE NOT r.creditable) AS not_creditable,
				-sum(r.amount) FILTER (WHERE r.creditable IS NULL) AS credit,
				count(r.creditable) AS lines,
				max(r.recorded_at) FILTER (WHERE r.creditable IS NOT NULL) AS last_line_at,
				max(r.recorded_at) FILTER (WHERE r.creditable IS NULL) AS last_entry_at
			FROM (
				SELECT u.account_id, u.service_period, u.billing_no, u.amount, u.creditable, u.recorded_at
				FROM creditmemo.utilization u
				UNION ALL
				SELECT e.account_id, e.service_period, e.billing_no, e.amount, NULL, e.recorded_at
				FROM entry e
				WHERE e.service_period IS NOT NULL) r
			GROUP BY r.account_id, r.service_period, r.billing_no) r
			USING (account_id, service_period, billing_no)
		LEFT JOIN creditmemo.member_account a USING (account_id)
		LEFT JOIN (
			SELECT i.invoice_number AS number, i.customer_id AS invoiced_customer_id,
				i.service_period AS invoiced_period, i.recorded_at AS invoiced_at, i.voided_at
			FROM creditmemo.invoice i) i ON i.number = b.invoice_number
	), voided AS (
		-- what voided invoices said
		SELECT v.account_id, v.service_period, v.billing_no, v.invoice_number, v.creditable, v.credit,
			v.prior_balance, v.balance_after, i.service_period AS invoiced_period,
			i.recorded_at AS invoiced_at, i.voided_at
		FROM creditmemo.voided_billing v
		LEFT JOIN creditmemo.invoice i ON i.invoice_number = v.invoice_number
	), event AS (
		/*
		 * What moves the balance after an invoice.  That is the balances of the memos and the credit on
		 * open billings; applying and releasing moves credit between those two.  So it is what was issued
		 * and restored until then, less what was written off and less the credit of whatever was on an
		 * invoice just then, voided since or not, this invoice's own included.
		 */
		SELECT e.account_id, e.recorded_at AS at, e.amount, NULL::text AS invoice_number,
			NULL::date AS service_period, NULL::integer AS billing_no, NULL::numeric AS balance_after
		FROM entry e
		WHERE e.entry_type IN ('issue', 'void', 'expire', 'restore')
		UNION ALL
		SELECT b.account_id, b.invoiced_at, -b.credit, b.invoice_number, b.service_period, b.billing_no,
			b.balance_after
		FROM billing b
		WHERE b.invoiced_at IS NOT NULL
		UNION ALL
		SELECT v.account_id, v.invoiced_at, -v.credit, v.invoice_number, v.service_period, v.billing_no,
			v.balance_after
		FROM voided v
		WHERE v.voided_at IS NOT NULL
		UNION ALL
		SELECT v.account_id, v.voided_at, v.credit, NULL, NULL, NULL, NULL
		FROM voided v
		WHERE v.voided_at IS NOT NULL
	), recomputed AS (
		SELECT e.account_id, e.invoice_number, e.service_period, e.billing_no, e.balance_after,
			sum(e.amount) OVER moment AS ledger_balance,
			-- where the clock stood still the order of events is not known
			rank() OVER moment = count(*) OVER moment AS is_certain
		FROM event e
		WINDOW moment AS (PARTITION BY e.account_id ORDER BY e.at)
	), service AS MATERIALIZED (
		-- what services that memos are limited to were charged, and what such memos paid of them
		SELECT r.account_id, r.service_period, r.service, coalesce(sum(r.charged), 0) AS charged,
			coalesce(-sum(r.moved), 0) AS credit
		FROM (
			SELECT u.account_id, u.service_period, u.service, u.amount AS charged, NULL::numeric AS moved
			FROM creditmemo.utilization u
			JOIN (
				SELECT DISTINCT m.account_id, unnest(m.services) AS service
				FROM creditmemo.credit_memo m
				WHERE m.services IS NOT NULL) named
				ON named.account_id = u.account_id AND named.service = u.service
			WHERE u.creditable
			UNION ALL
			SELECT e.account_id, e.service_period, e.service, NULL, e.amount
			FROM entry e
			WHERE e.service IS NOT NULL AND NOT e.is_other_service) r
		GROUP BY r.account_id, r.service_period, r.service
	), idle AS (
		-- memos with a balance beside open billings that they may pay
		SELECT u.account_id, u.service_period, u.billing_no, u.room, m.memo_number, m.balance, m.services
		FROM (
			SELECT b.account_id, b.service_period, b.billing_no,
				least(greatest(b.creditable, 0),
					  greatest(b.period_creditable, 0) - (b.period_credit - b.credit)) - b.credit AS room
			FROM billing b
			WHERE b.is_open AND (b.closed_through IS NULL OR b.service_period > b.closed_through)) u
		JOIN memo m ON m.account_id = u.account_id
		WHERE u.room > 0 AND m.balance > 0 AND NOT m.is_void AND u.service_period >= m.first_period
			AND (m.last_period IS NULL OR u.service_period <= m.last_period)
	), finding AS (
		/*
		 * Each of these is a problem, a colon, and where it is.  A table is read once for all that is
		 * asked of its rows, and only what is wrong is written out.
		 *
		 * That the last entry's running balance is the memo's balance follows from three: the balance is
		 * the sum of the entries, their numbers have no gap, and each continues the one before it.
		 */
		SELECT m.account_id, array_remove(ARRAY[
			CASE WHEN m.balance <> m.issued - m.applied - m.written_off - m.expired THEN
				format('balance is not the sum of the entries: credit memo %s: balance %s, entries %s',
					   m.memo_number, m.balance, m.issued - m.applied - m.written_off - m.expired) END,
			CASE WHEN m.entries <> m.entries_found THEN
				format('entries are not as many as counted: credit memo %s: counted %s, there are %s',
					   m.memo_number, m.entries, m.entries_found) END,
			CASE WHEN NOT m.balance BETWEEN 0 AND m.amount THEN
				format('balance is not between zero and the amount: credit memo %s: balance %s of %s',
					   m.memo_number, m.balance, m.amount) END,
			CASE WHEN m.amount <> m.issued THEN
				format('amount is not what was issued: credit memo %s: amount %s, issued %s',
					   m.memo_number, m.amount, m.issued) END,
			CASE WHEN m.amount <> m.applied + m.balance + m.written_off + m.expired THEN
				format('issued is not applied, open, void and expired together: credit memo %s: issued %s, applied %s, open %s, void %s, expired %s',
					   m.memo_number, m.amount, m.applied, m.balance, m.written_off, m.expired) END,
			CASE WHEN m.po_number = '' THEN
				format('credit memo without a PO: credit memo %s', m.memo_number) END,
			CASE WHEN NOT m.has_account THEN
				format('credit memo is of an unknown member account: credit memo %s', m.memo_number) END,
			CASE WHEN m.is_void AND m.balance <> 0 THEN
				format('void credit memo has a balance: credit memo %s: balance %s', m.memo_number,
					   m.balance) END,
			CASE WHEN m.is_void AND coalesce(btrim(m.void_reason), '') = '' THEN
				format('credit memo is void without a reason: credit memo %s', m.memo_number) END,
			CASE WHEN NOT m.is_void AND m.written_off <> 0 THEN
				format('credit memo was written off but is not void: credit memo %s: written off %s',
					   m.memo_number, m.written_off) END,
			CASE WHEN m.has_ended AND NOT m.is_void AND m.balance <> 0 THEN
				format('credit memo has ended with a balance: credit memo %s: balance %s, last period %s, closed through %s',
					   m.memo_number, m.balance, m.last_period, m.closed_through) END,
			CASE WHEN NOT m.has_ended AND NOT m.is_void AND m.expired > 0 THEN
				format('credit memo expired before its end: credit memo %s: expired %s, last period %s, closed through %s',
					   m.memo_number, m.expired, coalesce(m.last_period::text, 'none'),
					   coalesce(m.closed_through::text, 'none')) END,
			CASE WHEN m.expired < 0 THEN
				format('more restored than expired: credit memo %s: %s more', m.memo_number,
					   -m.expired) END], NULL) AS found
		FROM memo m
		UNION ALL
		SELECT e.account_id, array_remove(ARRAY[
			CASE WHEN e.memo_number IS NULL THEN
				format('entry is of an unknown credit memo: memo %s, entry %s', e.memo_id, e.entry_no) END,
			CASE WHEN e.no_before IS NULL AND e.entry_no <> 1 THEN
				format('entry numbers have a gap: credit memo %s: no entry before entry %s', e.memo_number,
					   e.entry_no) END,
			CASE WHEN e.balance_after <> coalesce(e.balance_before, 0) + e.amount
					AND (e.no_before IS NOT NULL OR e.entry_no = 1) THEN
				format('running balance is wrong: credit memo %s, entry %s: balance before %s, amount %s, balance after %s',
					   e.memo_number, e.entry_no, coalesce(e.balance_before, 0), e.amount,
					   e.balance_after) END,
			CASE WHEN e.recorded_at > e.voided_at AND e.entry_type IN ('apply', 'expire', 'restore')
					OR e.recorded_at < e.voided_at AND e.entry_type = 'void' THEN
				format('entry contradicts the time of the void: credit memo %s, entry %s: %s of %s, void since %s',
					   e.memo_number, e.entry_no, e.entry_type, e.recorded_at, e.voided_at) END,
			CASE WHEN e.entry_type IN ('void', 'expire') AND e.balance_after <> 0 THEN
				format('write-off leaves a balance: credit memo %s, entry %s: %s', e.memo_number,
					   e.entry_no, e.balance_after) END,
			CASE WHEN e.recorded_at < e.recorded_before THEN
				format('entry is older than the one before it: credit memo %s: entry %s of %s, entry %s of %s',
					   e.memo_number, e.no_before, e.recorded_before, e.entry_no, e.recorded_at) END,
			CASE WHEN e.entry_type = 'apply' AND e.is_other_service THEN
				format('memo paid what it is not for: credit memo %s, entry %s: %s', e.memo_number,
					   e.entry_no, coalesce(e.service, 'any service')) END,
			CASE WHEN e.entry_type = 'apply' AND e.is_too_early THEN
				format('memo paid a service period before its first: credit memo %s, entry %s: %s',
					   e.memo_number, e.entry_no, e.service_period) END], NULL)
		FROM entry e
		UNION ALL
		SELECT r.account_id, array_remove(ARRAY[
			CASE WHEN NOT r.is_application THEN
				format('release undoes no application: credit memo %s, entry %s: undoes entry %s',
					   r.memo_number, r.entry_no, r.reverses) END,
			CASE WHEN r.service_period IS DISTINCT FROM r.paid_period AND r.is_application THEN
				format('release is not of the service period that was paid: credit memo %s, entry %s: %s, undone by entry %s: %s',
					   r.memo_number, r.reverses, r.paid_period, r.entry_no, r.service_period) END,
			CASE WHEN r.service IS DISTINCT FROM r.paid_service AND r.is_application THEN
				format('release is not of the service that was paid: credit memo %s, entry %s: %s, undone by entry %s: %s',
					   r.memo_number, r.reverses, coalesce(r.paid_service, 'any service'), r.entry_no,
					   coalesce(r.service, 'any service')) END,
			CASE WHEN r.billing_no < r.paid_billing_no AND r.service_period = r.paid_period THEN
				format('release is on a billing before the one that was paid: credit memo %s, entry %s: %s, billing %s, undone by entry %s: billing %s',
					   r.memo_number, r.reverses, r.paid_period, r.paid_billing_no, r.entry_no,
					   r.billing_no) END], NULL)
		FROM undone r
		UNION ALL
		SELECT r.account_id, ARRAY[
			format('more released than applied: credit memo %s, entry %s: applied %s, released %s',
				   r.memo_number, r.entry_no, r.applied, r.released)]
		FROM released r
		WHERE r.released > r.applied
		UNION ALL
		SELECT e.account_id, array_remove(ARRAY[
			CASE WHEN e.voided_at IS NOT NULL THEN
				format('open billing is paid by a void memo: %s, billing %s: credit memo %s, entry %s: %s',
					   e.service_period, e.billing_no, e.memo_number, e.entry_no,
					   -e.amount - coalesce(r.released, 0)) END,
			CASE WHEN e.is_too_late THEN
				format('open billing is paid by a memo of other periods: %s, billing %s: credit memo %s, entry %s: %s',
					   e.service_period, e.billing_no, e.memo_number, e.entry_no,
					   -e.amount - coalesce(r.released, 0)) END], NULL)
		FROM entry e
		JOIN billing b ON b.account_id = e.account_id AND b.service_period = e.service_period
			AND b.billing_no = e.billing_no
		LEFT JOIN released r ON r.account_id = e.account_id AND r.memo_id = e.memo_id
			AND r.entry_no = e.entry_no
		WHERE e.entry_type = 'apply' AND (e.voided_at IS NOT NULL OR e.is_too_late) AND b.is_open
			-- what is closed is left as it is
			AND (b.closed_through IS NULL OR b.service_period > b.closed_through)
			AND -e.amount > coalesce(r.released, 0)
		UNION ALL
		SELECT b.account_id, array_remove(ARRAY[
			CASE WHEN NOT b.has_billing THEN
				format('billing is missing: %s, billing %s: lines %s, utilization %s, credit %s', b.service_period,
					   b.billing_no, b.lines, b.lines_utilization, b.entries_credit) END,
			CASE WHEN b.customer_id IS NULL THEN
				format('billing is of an unknown member account: %s, billing %s', b.service_period,
					   b.billing_no) END,
			CASE WHEN b.utilization <> b.lines_utilization OR b.creditable <> b.lines_creditable THEN
				format('billing is not the sum of its lines: %s, billing %s: utilization %s (creditable %s), lines %s (creditable %s)',
					   b.service_period, b.billing_no, b.utilization, b.creditable, b.lines_utilization,
					   b.lines_creditable) END,
			CASE WHEN b.credit <> b.entries_credit THEN
				format('billing''s credit is not the sum of its entries: %s, billing %s: credit %s, entries %s',
					   b.service_period, b.billing_no, b.credit, b.entries_credit) END,
			CASE WHEN b.credit > greatest(b.creditable, 0) THEN
				format('credit is beyond what it may pay: %s, billing %s: credit %s, creditable %s',
					   b.service_period, b.billing_no, b.credit, b.creditable) END,
			CASE WHEN NOT b.period_credit BETWEEN 0 AND greatest(b.period_creditable, 0) THEN
				format('credit of the period is beyond what it may pay: %s, through billing %s: credit %s, creditable %s',
					   b.service_period, b.billing_no, b.period_credit, b.period_creditable) END,
			CASE WHEN b.billing_no <> b.place THEN
				format('billing numbers have a gap: %s: billing %s is the %s.', b.service_period,
					   b.billing_no, b.place) END,
			CASE WHEN b.first_open_no < b.billing_no AND b.folded_into IS NULL THEN
				format('billing comes after an open one: %s: billing %s is open, billing %s follows',
					   b.service_period, b.first_open_no, b.billing_no) END,
			CASE WHEN b.folded_into IS DISTINCT FROM b.not_folded_no AND b.folded_into IS NOT NULL THEN
				format('folded billing is not folded into the one before it: %s, billing %s: folded into %s, not into %s',
					   b.service_period, b.billing_no, b.folded_into, coalesce(b.not_folded_no::text, 'any')) END,
			CASE WHEN b.folded_into IS NOT NULL AND (b.utilization <> 0 OR b.creditable <> 0 OR b.credit <> 0
					OR b.lines > 0 OR b.invoice_number IS NOT NULL) THEN
				format('folded billing is not empty: %s, billing %s: utilization %s, creditable %s, credit %s, lines %s, invoice %s',
					   b.service_period, b.billing_no, b.utilization, b.creditable, b.credit, b.lines,
					   coalesce(b.invoice_number, 'none')) END,
			CASE WHEN b.is_open AND b.service_period <= b.closed_through AND (b.lines > 0 OR b.credit <> 0) THEN
				format('closed service period has something to bill: %s, billing %s: lines %s, utilization %s, credit %s, closed through %s',
					   b.service_period, b.billing_no, b.lines, b.utilization, b.credit,
					   b.closed_through) END,
			CASE WHEN b.invoice_number IS NOT NULL AND b.lines = 0 AND b.credit = 0 THEN
				format('invoiced billing has nothing to bill: %s, billing %s, invoice %s', b.service_period,
					   b.billing_no, b.invoice_number) END,
			CASE WHEN b.invoice_number IS NOT NULL AND b.invoiced_at IS NULL THEN
				format('billing is on an unknown invoice: %s, billing %s, invoice %s', b.service_period,
					   b.billing_no, b.invoice_number) END,
			CASE WHEN b.invoiced_period <> b.service_period THEN
				format('billing is not of the service period of its invoice: %s, billing %s, invoice %s: %s',
					   b.service_period, b.billing_no, b.invoice_number, b.invoiced_period) END,
			CASE WHEN b.voided_at IS NOT NULL THEN
				format('billing is on a void invoice: %s, billing %s, invoice %s', b.service_period,
					   b.billing_no, b.invoice_number) END,
			CASE WHEN b.last_line_at > b.invoiced_at THEN
				format('line is newer than its invoice: %s, billing %s, invoice %s of %s: line of %s',
					   b.service_period, b.billing_no, b.invoice_number, b.invoiced_at, b.last_line_at) END,
			CASE WHEN b.last_entry_at > b.invoiced_at THEN
				format('entry is newer than its invoice: %s, billing %s, invoice %s of %s: entry of %s',
					   b.service_period, b.billing_no, b.invoice_number, b.invoiced_at, b.last_entry_at) END,
			CASE WHEN b.prior_balance - b.credit IS DISTINCT FROM b.balance_after THEN
				format('prior balance less credit is not the balance after: %s, billing %s, invoice %s: %s - %s is not %s',
					   b.service_period, b.billing_no, b.invoice_number, b.prior_balance, b.credit,
					   b.balance_after) END], NULL)
		FROM billing b
		UNION ALL
		SELECT b.account_id, ARRAY[
			format('due is not utilization less credit: %s, billing %s: utilization %s, credit %s, due %s',
				   b.service_period, b.billing_no, b.utilization, b.credit, b.due)]
		FROM creditmemo.billing b
		WHERE b.due IS DISTINCT FROM b.utilization - b.credit
		UNION ALL
		SELECT b.account_id, ARRAY[
			format('invoice is in another currency than its account: %s, billing %s, invoice %s: %s, account %s',
				   b.service_period, b.billing_no, b.invoice_number, ic.currency, ac.currency)]
		FROM billing b
		JOIN creditmemo.customer ac ON ac.customer_id = b.customer_id
		JOIN creditmemo.customer ic ON ic.customer_id = b.invoiced_customer_id
		WHERE b.invoiced_customer_id <> b.customer_id AND ic.currency <> ac.currency
		UNION ALL
		SELECT v.account_id, array_remove(ARRAY[
			CASE WHEN v.invoiced_period IS DISTINCT FROM v.service_period THEN
				format('voided billing is not of the service period of its invoice: %s, billing %s, invoice %s: %s',
					   v.service_period, v.billing_no, v.invoice_number, v.invoiced_period) END,
			CASE WHEN v.voided_at IS NULL THEN
				format('voided billing is of an invoice that is not void: %s, billing %s, invoice %s',
					   v.service_period, v.billing_no, v.invoice_number) END,
			CASE WHEN v.credit > greatest(v.creditable, 0) THEN
				format('voided credit is beyond what it might pay: %s, billing %s, invoice %s: credit %s, creditable %s',
					   v.service_period, v.billing_no, v.invoice_number, v.credit, v.creditable) END,
			CASE WHEN v.prior_balance - v.credit <> v.balance_after THEN
				format('prior balance less credit is not the balance after: %s, billing %s, voided invoice %s: %s - %s is not %s',
					   v.service_period, v.billing_no, v.invoice_number, v.prior_balance, v.credit,
					   v.balance_after) END], NULL)
		FROM voided v
		UNION ALL
		SELECT account_id, ARRAY[
			format('voided billing is not the sum of its lines: invoice %s: utilization %s, of it creditable %s; lines %s, of it creditable %s',
				   invoice_number, coalesce(v.utilization::text, 'none'), coalesce(v.creditable::text, 'none'),
				   coalesce(l.utilization::text, 'none'), coalesce(l.creditable::text, 'none'))]
		FROM creditmemo.voided_billing v
		FULL JOIN (
			SELECT account_id, invoice_number, sum(utilization) AS utilization, sum(creditable) AS creditable
			FROM creditmemo.voided_line
			GROUP BY account_id, invoice_number) l USING (account_id, invoice_number)
		WHERE (v.utilization, v.creditable)
			IS DISTINCT FROM (coalesce(l.utilization, 0), coalesce(l.creditable, 0))
		UNION ALL
		SELECT r.account_id, ARRAY[
			format('balance after is not that of the ledger: %s, billing %s, invoice %s: balance after %s, ledger %s',
				   r.service_period, r.billing_no, r.invoice_number, r.balance_after, r.ledger_balance)]
		FROM recomputed r
		WHERE r.balance_after <> r.ledger_balance AND r.is_certain
		UNION ALL
		SELECT t.account_id, ARRAY[
			format('billing was on two invoices at once: %s, billing %s: invoice %s of %s, invoice %s of %s',
				   t.service_period, t.billing_no, t.number_before, t.invoiced_before, t.invoice_number,
				   t.invoiced_at)]
		FROM (
			SELECT t.account_id, t.service_period, t.billing_no, t.invoice_number, t.invoiced_at,
				lag(t.invoice_number) OVER billing AS number_before,
				lag(t.invoiced_at) OVER billing AS invoiced_before,
				lag(t.voided_at, 1, '-infinity') OVER billing AS voided_before
			FROM (
				SELECT v.account_id, v.service_period, v.billing_no, v.invoice_number, v.invoiced_at,
					v.voided_at
				FROM voided v
				UNION ALL
				SELECT b.account_id, b.service_period, b.billing_no, b.invoice_number, b.invoiced_at, NULL
				FROM billing b
				WHERE b.invoiced_at IS NOT NULL AND (b.account_id, b.service_period, b.billing_no) IN (
					SELECT v.account_id, v.service_period, v.billing_no
					FROM voided v)) t
			WINDOW billing AS (PARTITION BY t.account_id, t.service_period, t.billing_no
							   ORDER BY t.invoiced_at, t.voided_at)) t
		WHERE coalesce(t.voided_before, 'infinity') > t.invoiced_at
		UNION ALL
		SELECT NULL, array_remove(ARRAY[
			CASE WHEN i.voided_at IS NULL AND b.invoice_number IS NULL THEN
				format('invoice bills nothing: invoice %s, %s', i.invoice_number, i.service_period) END,
			CASE WHEN i.voided_at IS NOT NULL AND v.invoice_number IS NULL THEN
				format('void invoice does not show what it billed: invoice %s, %s', i.invoice_number,
					   i.service_period) END,
			CASE WHEN i.voided_at < i.recorded_at THEN
				format('invoice was void before it was issued: invoice %s: issued %s, void %s',
					   i.invoice_number, i.recorded_at, i.voided_at) END,
			CASE WHEN i.voided_at IS NOT NULL AND coalesce(btrim(i.void_reason), '') = '' THEN
				format('invoice is void without a reason: invoice %s', i.invoice_number) END], NULL)
		FROM creditmemo.invoice i
		LEFT JOIN (
			SELECT DISTINCT b.invoice_number
			FROM billing b
			WHERE b.invoiced_at IS NOT NULL) b ON b.invoice_number = i.invoice_number
		LEFT JOIN (
			SELECT DISTINCT v.invoice_number
			FROM creditmemo.voided_billing v) v ON v.invoice_number = i.invoice_number
		UNION ALL
		SELECT s.account_id, ARRAY[
			format('credit of a service is beyond what it may pay: %s, %s: credit %s, charged %s',
				   s.service_period, s.service, s.credit, s.charged)]
		FROM service s
		WHERE NOT s.credit BETWEEN 0 AND greatest(s.charged, 0)
		UNION ALL
		SELECT i.account_id, ARRAY[
			format('credit lies idle beside an open billing: %s, billing %s: %s unpaid, credit memo %s has %s',
				   i.service_period, i.billing_no, i.room, i.memo_number, i.balance)]
		FROM idle i
		WHERE i.services IS NULL
		UNION ALL
		SELECT i.account_id, ARRAY[
			format('credit lies idle beside an open billing: %s, billing %s: %s unpaid, %s of it for %s, credit memo %s has %s',
				   i.service_period, i.billing_no, i.room, least(i.room, s.charged - s.credit), s.service,
				   i.memo_number, i.balance)]
		FROM idle i
		JOIN service s ON s.account_id = i.account_id AND s.service_period = i.service_period
		WHERE s.charged > greatest(s.credit, 0) AND s.service = ANY (i.services)
		UNION ALL
		SELECT m.account_id, ARRAY[
			format('credit of the account is out of range: issued %s', sum(m.amount))]
		FROM memo m
		GROUP BY m.account_id
		HAVING sum(m.amount) >= 1000000000000000
	)
	SELECT split_part(f.found, ': ', 1), f.account_id, substr(f.found, strpos(f.found, ': ') + 2)
	FROM (
		SELECT f.account_id, unnest(f.found) AS found
		FROM finding f
		WHERE f.found <> '{}') f;
END;
COMMENT ON FUNCTION creditmemo.verify() IS
'Checks the books from their rows: every balance, billing, entry and invoice against what it must be. No row means that they are sound';

-- ---------------------------------------------------------------------------------------------
-- Who may use them
-- ---------------------------------------------------------------------------------------------

REVOKE ALL ON ALL TABLES IN SCHEMA creditmemo FROM PUBLIC;
REVOKE ALL ON ALL SEQUENCES IN SCHEMA creditmemo FROM PUBLIC;
REVOKE ALL ON ALL FUNCTIONS IN SCHEMA creditmemo FROM PUBLIC;
-- these checks run as whoever uses the domains, or writes a template
GRANT EXECUTE ON FUNCTION creditmemo.check_money_amount(numeric) TO PUBLIC;
GRANT EXECUTE ON FUNCTION creditmemo.check_service_period(date) TO PUBLIC;
GRANT EXECUTE ON FUNCTION creditmemo.check_email_subject(text) TO PUBLIC;
GRANT EXECUTE ON FUNCTION creditmemo.check_email_text(text) TO PUBLIC;
