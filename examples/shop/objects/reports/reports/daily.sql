CREATE MATERIALIZED VIEW daily AS
SELECT placed_at::date AS day, count(*) AS orders, sum(total_cents) AS total_cents
FROM shop.orders
GROUP BY placed_at::date;

CREATE UNIQUE INDEX daily_day_idx ON daily (day);

COMMENT ON COLUMN daily.day IS 'in the time zone of the session that filled it';

EXECUTE UNIT TEST orders_of_a_day_are_summed
  MOCK shop.orders(total_cents bigint, placed_at timestamptz) AS (
    VALUES (100, '2026-01-31 12:00+00'), (250, '2026-01-31 12:30+00')
  )
  EXPECTED (day date, orders bigint, total_cents numeric) AS (VALUES ('2026-01-31', 2, 350));
