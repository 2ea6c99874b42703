CREATE VIEW week AS SELECT * FROM daily WHERE day > current_date - 7;
