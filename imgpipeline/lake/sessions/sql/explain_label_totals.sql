-- Traces a count of label_totals: like explain_label_counts, over all hours of the day.
--
-- of_day: DATE (UTC) · of_label: the label · of_source: the source; default: all sources
CREATE MACRO explain_label_totals(of_day, of_label, of_source := NULL) AS TABLE
SELECT * FROM explain_label_counts(of_day, NULL, of_label, of_source := of_source)
