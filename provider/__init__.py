"""The simulated card processor: own process, own durable store, outcomes scripted by payment method."""
