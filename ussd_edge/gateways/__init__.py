"""The wire formats of USSD gateways."""
