//! The science and the project: nuclei, metrics, export, report.
