/*
 * Invoices January and copies what that fixes, so that later lines of it are on second billings.
 */
SELECT creditmemo.issue_invoice('SI1', 'C', '2019-01-01', '2019-02-05') \g /dev/null
CREATE FUNCTION public.copy_invoice(schema text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE format($sql$
		UPDATE %I.billing b
		SET invoice_number = c.invoice_number, po_number = c.po_number, payer_account_id = c.payer_account_id,
			prior_balance = c.prior_balance, balance_after = c.balance_after
		FROM creditmemo.billing c
		WHERE c.invoice_number IS NOT NULL AND (b.account_id, b.service_period, b.billing_no)
			= (c.account_id, c.service_period, c.billing_no)
		$sql$, schema);
END
$$;
SELECT public.copy_invoice('row_trigger'), public.copy_invoice('statement_trigger') \g /dev/null
