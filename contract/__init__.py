"""The words that services share: routing keys, queues, reasons, ids."""
