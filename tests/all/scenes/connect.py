"""Asks a farm how it is, with a connect string and the standard library."""

import hashlib
import ssl
import sys
import urllib.parse
import urllib.request

connect = urllib.parse.urlsplit(sys.argv[1])
base = f"https://{connect.hostname}:{connect.port}/api/v1"
(ca,) = urllib.parse.parse_qs(connect.query)["ca"]

# Whoever answers may be anybody, so nothing secret is said until its certificate is checked.
unchecked = ssl.create_default_context()
unchecked.check_hostname = False
unchecked.verify_mode = ssl.CERT_NONE
with urllib.request.urlopen(f"{base}/ca.pem", context=unchecked) as answer:
    pem = answer.read().decode()
if hashlib.sha256(ssl.PEM_cert_to_DER_cert(pem)).hexdigest() != ca:
    sys.exit("this is not the farm of the connect string")

farm = ssl.create_default_context(cadata=pem)
farm.verify_flags |= ssl.VERIFY_X509_STRICT
request = urllib.request.Request(f"{base}/farm")
request.add_header("Authorization", f"Bearer {connect.username}")
with urllib.request.urlopen(request, context=farm) as answer:
    print(answer.read().decode())
