-- A count of label_totals, followed back: as explain_label_counts, over all hours of the day.
--
-- of_day: DATE (UTC) · of_label: the label
CREATE MACRO explain_label_totals(of_day, of_label) AS TABLE
SELECT * FROM explain_label_counts(of_day, NULL, of_label)
