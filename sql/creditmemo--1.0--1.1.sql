\echo Use "ALTER EXTENSION creditmemo UPDATE TO '1.1'" to load this file. \quit

SET LOCAL search_path = pg_catalog, pg_temp;

-- ---------------------------------------------------------------------------------------------
-- Who may use it
-- ---------------------------------------------------------------------------------------------

CREATE FUNCTION creditmemo.grant_reader(role regrole) RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF NOT EXISTS (SELECT FROM pg_roles r WHERE r.oid = grant_reader.role) THEN
		RAISE EXCEPTION 'there is no such role'
			USING ERRCODE = 'undefined_object', HINT = 'Name a role; what is granted to it, its members have.';
	END IF;
	EXECUTE format($grants$
		GRANT USAGE ON SCHEMA creditmemo TO %1$s;
		GRANT SELECT ON
			creditmemo.customer, creditmemo.payer_account, creditmemo.member_account, creditmemo.period_closing,
			creditmemo.po_assignment, creditmemo.credit_memo, creditmemo.utilization, creditmemo.invoice,
			creditmemo.billing, creditmemo.voided_billing, creditmemo.voided_line, creditmemo.memo_entry,
			creditmemo.provider_credit, creditmemo.bill_account, creditmemo.seller, creditmemo.email_template,
			creditmemo.po_in_force, creditmemo.credit_use, creditmemo.memo_balance, creditmemo.memo_statement,
			creditmemo.credit_movement, creditmemo.credit_month, creditmemo.account_balance, creditmemo.unbilled,
			creditmemo.invoice_body, creditmemo.invoice_face, creditmemo.invoice_line, creditmemo.invoice_email,
			creditmemo.credit_reconciliation, creditmemo.credit_liability, creditmemo.memo_provider_credit
		TO %1$s;
		GRANT EXECUTE ON FUNCTION
			creditmemo.balance_as_of(timestamptz), creditmemo.verify(),
			creditmemo.predicted_allocation(text, date), creditmemo.defw_waiver(text, date, text[]),
			creditmemo.require_payer_period(text, date),
			creditmemo.money_text(numeric, text), creditmemo.service_period_text(date),
			creditmemo.compose_email(text), creditmemo.email_text(text), creditmemo.email_html(text),
			creditmemo.invoice_html(text),
			creditmemo.statement_html(text, date, date, text), creditmemo.statement_text(text, date, date, text)
		TO %1$s;
		-- for tables and views that are made of ours
		GRANT USAGE ON TYPE creditmemo.money_amount, creditmemo.service_period TO %1$s;
		$grants$, grant_reader.role);
END
$$;
COMMENT ON FUNCTION creditmemo.grant_reader(regrole) IS
'Lets a role, and whoever is a member of it, read all tables and views and call the functions that change nothing';

CREATE FUNCTION creditmemo.grant_biller(role regrole) RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	PERFORM creditmemo.grant_reader(grant_biller.role);
	EXECUTE format($grants$
		GRANT INSERT (customer_id, name, address, email, currency, payment_terms_days),
			UPDATE (name, address, email, currency, payment_terms_days) ON creditmemo.customer TO %1$s;
		GRANT INSERT (payer_account_id, name), UPDATE (name) ON creditmemo.payer_account TO %1$s;
		GRANT INSERT (account_id, payer_account_id, customer_id, name),
			UPDATE (payer_account_id, customer_id, name) ON creditmemo.member_account TO %1$s;
		GRANT INSERT (account_id, assigned_at, po_number) ON creditmemo.po_assignment TO %1$s;
		GRANT INSERT (account_id, memo_number, credit_type, provider_credit_id, amount, redeemed_on, expires_on,
				services, priority, note),
			UPDATE (provider_credit_id, expires_on, priority, note) ON creditmemo.credit_memo TO %1$s;
		GRANT INSERT (service_period, account_id, service, description, amount, creditable, source_id),
			UPDATE (service_period, account_id, service, description, amount, creditable, source_id),
			DELETE ON creditmemo.utilization TO %1$s;
		GRANT INSERT (account_id, payer_account_id, owner_account_id, provider_credit_id, service_period, service,
				amount, description, source_id),
			UPDATE (account_id, payer_account_id, owner_account_id, provider_credit_id, service_period, service,
				amount, description, source_id),
			DELETE ON creditmemo.provider_credit TO %1$s;
		GRANT INSERT (payer_account_id, billing_period, account_id) ON creditmemo.bill_account TO %1$s;
		GRANT EXECUTE ON FUNCTION
			creditmemo.issue_invoice(text, text, date, date, text[]), creditmemo.void_invoice(text, text),
			creditmemo.void_memo(text, text, text),
			creditmemo.close_period(date, text), creditmemo.reopen_period(date, text, text),
			creditmemo.import_focus(regclass, text), creditmemo.import_cur(regclass, text),
			-- the parts of an import, which runs with the rights of whoever calls it: it reads his table
			creditmemo.import_bill(regclass, text, text, text), creditmemo.require_bill_columns(regclass, text[]),
			creditmemo.bill_column(regclass, text, text[]), creditmemo.warn_of_missing_bill_month(regclass, text),
			creditmemo.stage_bill(regclass, text), creditmemo.check_bill(regclass),
			creditmemo.register_bill_accounts(text), creditmemo.compare_bill(), creditmemo.lock_bill_changes(),
			creditmemo.book_bill_charges(), creditmemo.book_bill_credits(), creditmemo.account_list(text[])
		TO %1$s;
		$grants$, grant_biller.role);
END
$$;
COMMENT ON FUNCTION creditmemo.grant_biller(regrole) IS
'Lets a role, and whoever is a member of it, do the work of billing: read all, write what is not kept by triggers, import bills and call all functions. Balances, billings and entries it cannot write, nor the letterhead and the wording of e-mails';

REVOKE ALL ON FUNCTION creditmemo.grant_reader(regrole), creditmemo.grant_biller(regrole) FROM PUBLIC;
-- an operator for one of these types would be taken before the server's own by whoever compares our columns
REVOKE ALL ON TYPE creditmemo.money_amount, creditmemo.service_period, creditmemo.bill_import FROM PUBLIC;

-- ---------------------------------------------------------------------------------------------
-- Row security
-- ---------------------------------------------------------------------------------------------

/*
 * Where policies hide rows, sums and comparisons would be wrong without a word: better an error.  So it is with
 * those on the source of an import, and with documents.
 */
ALTER FUNCTION creditmemo.verify() SET row_security = off;
ALTER FUNCTION creditmemo.predicted_allocation(text, date) SET row_security = off;
ALTER FUNCTION creditmemo.defw_waiver(text, date, text[]) SET row_security = off;
ALTER FUNCTION creditmemo.register_bill_accounts(text) SET row_security = off;
ALTER FUNCTION creditmemo.compare_bill() SET row_security = off;
ALTER FUNCTION creditmemo.lock_bill_changes() SET row_security = off;
ALTER FUNCTION creditmemo.book_bill_charges() SET row_security = off;
ALTER FUNCTION creditmemo.book_bill_credits() SET row_security = off;
ALTER FUNCTION creditmemo.stage_bill(regclass, text) SET row_security = off;
ALTER FUNCTION creditmemo.compose_email(text) SET row_security = off;
ALTER FUNCTION creditmemo.invoice_html(text) SET row_security = off;
ALTER FUNCTION creditmemo.statement_html(text, date, date, text) SET row_security = off;
ALTER FUNCTION creditmemo.statement_text(text, date, date, text) SET row_security = off;
