/*
 * The lines alone: columns and indexes of creditmemo.utilization, without its triggers.
 */
CREATE SCHEMA bare;
CREATE TABLE bare.utilization
	(LIKE creditmemo.utilization INCLUDING DEFAULTS INCLUDING IDENTITY INCLUDING INDEXES);
