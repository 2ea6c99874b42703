-- name: bare_hash :one
-- Key and xmin of every row of the catalogs a probe must look at, and nothing else: no filters, no names.
SELECT string_agg(part.hash::text, ',')
FROM (
    SELECT sum(hash_record_extended(ROW(attrelid, attnum, xmin), 0)) AS hash FROM pg_attribute
    UNION ALL
    SELECT sum(hash_record_extended(ROW(oid, xmin), 0)) FROM pg_class
    UNION ALL
    SELECT sum(hash_record_extended(ROW(indexrelid, xmin), 0)) FROM pg_index
    UNION ALL
    SELECT sum(hash_record_extended(ROW(oid, xmin), 0)) FROM pg_constraint
    UNION ALL
    SELECT sum(hash_record_extended(ROW(oid, xmin), 0)) FROM pg_proc
    UNION ALL
    SELECT sum(hash_record_extended(ROW(oid, xmin), 0)) FROM pg_type
    UNION ALL
    SELECT sum(hash_record_extended(ROW(oid, xmin), 0)) FROM pg_trigger
    UNION ALL
    SELECT sum(hash_record_extended(ROW(oid, xmin), 0)) FROM pg_policy
    UNION ALL
    SELECT sum(hash_record_extended(ROW(oid, xmin), 0)) FROM pg_rewrite
    UNION ALL
    SELECT sum(hash_record_extended(ROW(oid, xmin), 0)) FROM pg_namespace
    UNION ALL
    SELECT sum(hash_record_extended(ROW(oid, xmin), 0)) FROM pg_extension
    UNION ALL
    SELECT sum(hash_record_extended(ROW(oid, xmin), 0)) FROM pg_attrdef
    UNION ALL
    SELECT sum(hash_record_extended(ROW(oid, xmin), 0)) FROM pg_default_acl
    UNION ALL
    SELECT sum(hash_record_extended(ROW(objoid, classoid, objsubid, xmin), 0)) FROM pg_description
    UNION ALL
    SELECT sum(hash_record_extended(ROW(oid, xmin), 0)) FROM pg_enum
    UNION ALL
    SELECT sum(hash_record_extended(ROW(seqrelid, xmin), 0)) FROM pg_sequence
    UNION ALL
    SELECT sum(hash_record_extended(ROW(inhrelid, inhparent, xmin), 0)) FROM pg_inherits
    UNION ALL
    SELECT sum(hash_record_extended(ROW(oid, xmin), 0)) FROM pg_publication
    UNION ALL
    SELECT sum(hash_record_extended(ROW(oid, xmin), 0)) FROM pg_publication_rel
    UNION ALL
    SELECT sum(hash_record_extended(ROW(oid, xmin), 0)) FROM pg_event_trigger
    UNION ALL
    SELECT sum(hash_record_extended(ROW(setdatabase, setrole, xmin), 0)) FROM pg_db_role_setting
) AS part;
