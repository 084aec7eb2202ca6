-- Vacuum comes to the queues by how many rows are gone, and not by what part of the queue that is: a fifth of ten million
-- are two million dead entries at the front of an index, and every look at the front passes all of them.
--
-- For a moment this waits for a vacuum of these tables that is under way (SHARE UPDATE EXCLUSIVE); nobody waits for it.
-- Processes of the version before are not concerned.

alter table due set (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 20000);
alter table timer set (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 20000);
