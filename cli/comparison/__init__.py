"""The variants of an experiment: trained, kept, put into tables and sentences. Knows no command."""
