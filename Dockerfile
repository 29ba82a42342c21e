# The image for those who can reach the registries of the base images: `docker build -t taskbroker .`
# `make images` makes the same image without them, from a binary that is built already: see scripts/images.

# Built on the Debian release that the final image is made of, so that the C library is the same.
ARG BUILD_BASE=rust:1-slim-bookworm
ARG BASE=gcr.io/distroless/cc-debian12:nonroot

FROM ${BUILD_BASE} AS build
RUN apt-get update && apt-get install --yes --no-install-recommends gcc g++ libc6-dev make perl && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    cargo build --locked --release --bin taskbroker \
    && install -D target/release/taskbroker /out/root/opt/taskbroker \
    && mkdir -p /out/root/usr/local/bin /out/data \
    && ln -s /opt/taskbroker /out/root/usr/local/bin/taskbroker \
    && install -D -m 644 config/production.yaml /out/root/etc/taskbroker/config.yaml \
    && install -D -m 644 LICENSE /out/root/usr/share/doc/taskbroker/LICENSE

# A C library, certificates and an unprivileged user; no shell, no package manager.
FROM ${BASE}
COPY --from=build /out/root /
# 65532 is the image's user `nonroot`; a volume that is mounted here takes over the owner.
COPY --from=build --chown=65532:65532 /out/data /var/lib/taskbroker
# --- What the image says besides its files. scripts/images takes everything below this line as it is.
USER 65532:65532
WORKDIR /var/lib/taskbroker
VOLUME /var/lib/taskbroker
# Workers (gRPC); metrics and probes (HTTP).
EXPOSE 50051 9464
STOPSIGNAL SIGTERM
# Asks /healthz at port 9464. Where http_port is another, give it as TASKBROKER_HTTP_PORT: then this one knows it, too.
HEALTHCHECK --interval=10s --timeout=5s --start-period=10s --retries=3 CMD ["/opt/taskbroker", "healthcheck"]
ENTRYPOINT ["/opt/taskbroker"]
CMD ["-c", "/etc/taskbroker/config.yaml"]
