"""What the tests stand on: a Kafka, brokers, workers, and what they leave behind."""
