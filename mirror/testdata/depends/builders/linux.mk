build_SHA256SUM = sha256sum
build_DOWNLOAD = curl --location --fail --silent --connect-timeout 5 -o
