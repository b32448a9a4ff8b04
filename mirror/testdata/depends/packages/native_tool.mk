package=native_tool
$(package)_version=7
$(package)_download_path=http://tool.invalid
ifneq (,$(findstring aarch64,$(BUILD)))
$(package)_file_name=tool-arm.tar.gz
$(package)_sha256_hash=4ef177bc1adfd99d9b0636c0f9dfacf26e580ecc65fdcb825f68793ec1f0b767
else
$(package)_file_name=tool-x86.tar.gz
$(package)_sha256_hash=41a2386844d03488697601903616444f639c60eb64327f9d62326362ff6bd9aa
endif
