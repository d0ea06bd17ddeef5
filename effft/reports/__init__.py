"""The report: MLflow runs -> a tidy table -> statistics -> figures -> one HTML page, its Markdown twin, CSVs."""
