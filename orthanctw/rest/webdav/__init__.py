"""WebDAV (RFC 4918) at ``/webdav``."""
