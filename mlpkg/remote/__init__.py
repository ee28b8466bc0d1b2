"""Any OCI registry: the client side of the distribution-spec (v1.1). Knows nothing of packages or plans.

`client` is the way in. It loads urllib3, so import it where a push or pull really happens.
"""
