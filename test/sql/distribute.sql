-- What distribute() and what it uses say where there is one machine.
SELECT creditmemo.is_distributed();
SELECT creditmemo.distribute();
INSERT INTO creditmemo.account_work (account_id, work) VALUES ('A', 'close');
INSERT INTO creditmemo.invoice_work VALUES ('SI1', now(), 'wrong');
SELECT * FROM creditmemo.verify_shard('creditmemo.member_account');
-- a table that is called like one is none
ALTER TABLE creditmemo.utilization RENAME TO utilization_102024;
INSERT INTO creditmemo.utilization_102024 (account_id, service_period, service, amount)
	VALUES ('A', '2019-01-01', 'Amazon EC2', 1);
ALTER TABLE creditmemo.utilization_102024 RENAME TO utilization;
CREATE TABLE creditmemo.billing_102025 (LIKE creditmemo.billing);
CREATE TRIGGER mine BEFORE UPDATE ON creditmemo.billing_102025
	FOR EACH STATEMENT EXECUTE FUNCTION creditmemo.refuse_change('mine');
UPDATE creditmemo.billing_102025 SET credit = 1;
DROP TABLE creditmemo.billing_102025;
SELECT * FROM creditmemo.verify();
