# Ingress, worker and command line. No Java: that is the table job's image.
FROM python:3.11-slim-bookworm
WORKDIR /opt/sluice
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY pipeline pipeline
COPY jobs jobs
RUN pip install --no-cache-dir -c constraints.txt . \
 && useradd --system --uid 10001 --create-home sluice
USER sluice
WORKDIR /home/sluice
ENV PYTHONUNBUFFERED=1
CMD ["sluice", "--help"]
