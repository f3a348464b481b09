"""The USSD menu, pure: inputs and facts in, screens out."""
