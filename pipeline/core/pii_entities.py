"""The kinds of personal data that an endpoint may ask for, by Presidio's names. Declared apart, so that a configuration can be checked
without loading what finds them."""

from typing import Final

CREDIT_CARD: Final = "CREDIT_CARD"
EMAIL_ADDRESS: Final = "EMAIL_ADDRESS"
IBAN_CODE: Final = "IBAN_CODE"
IP_ADDRESS: Final = "IP_ADDRESS"
PHONE_NUMBER: Final = "PHONE_NUMBER"
US_BANK_NUMBER: Final = "US_BANK_NUMBER"
US_SSN: Final = "US_SSN"

# What is looked for unless an endpoint says otherwise; found without a language model (pipeline/core/pii).
DEFAULT_ENTITIES = frozenset({CREDIT_CARD, EMAIL_ADDRESS, IBAN_CODE, IP_ADDRESS, PHONE_NUMBER, US_BANK_NUMBER, US_SSN})
# What needs one, or Presidio's own recognizers (pipeline/ner).
NER_ENTITIES = frozenset(
    {
        "AGE", "CRYPTO", "DATE_TIME", "LOCATION", "MEDICAL_LICENSE", "NRP", "ORGANIZATION", "PERSON", "TITLE", "UK_NHS", "URL", "US_ITIN",
        "US_PASSPORT",
    }
)  # fmt: skip
ALL_ENTITIES = DEFAULT_ENTITIES | NER_ENTITIES
