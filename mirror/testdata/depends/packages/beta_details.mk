beta_details_version := 2.1
beta_details_suffix := $(beta_details_version).tar.xz
beta_details_docs_sha256_hash := fea2647d646b71917d90574bca6ba4092b18502741ab37a3e0c858ea2b76c629
