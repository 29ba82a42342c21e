# syntax=docker/dockerfile:1

# Built on the Debian release that the final image is made of, so that the C library is the same.
FROM rust:1-slim-bookworm AS build
RUN apt-get update && apt-get install --yes --no-install-recommends gcc g++ libc6-dev make perl && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    cargo build --locked --release --bin taskbroker \
    && install -D target/release/taskbroker /out/usr/local/bin/taskbroker \
    && install -D -m 644 config/production.yaml /out/etc/taskbroker/config.yaml \
    && install -D -m 644 LICENSE /out/usr/share/doc/taskbroker/LICENSE \
    && mkdir -p /out/var/lib/taskbroker

# A C library, certificates and an unprivileged user; no shell, no package manager.
FROM gcr.io/distroless/cc-debian12:nonroot
COPY --from=build /out/usr /usr
COPY --from=build /out/etc/taskbroker /etc/taskbroker
# 65532 is the image's user `nonroot`; a volume that is mounted here takes over the owner.
COPY --from=build --chown=65532:65532 /out/var/lib/taskbroker /var/lib/taskbroker
WORKDIR /var/lib/taskbroker
VOLUME /var/lib/taskbroker
# Workers (gRPC); metrics and probes (HTTP).
EXPOSE 50051 9464
STOPSIGNAL SIGTERM
ENTRYPOINT ["/usr/local/bin/taskbroker"]
CMD ["-c", "/etc/taskbroker/config.yaml"]
