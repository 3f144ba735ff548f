"""Metrics: functions over scikit-learn, seqeval, sacreBLEU, and rouge-score."""
