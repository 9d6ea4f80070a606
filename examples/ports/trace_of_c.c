/* Least squares y = w . x by gradient descent, in C: writes a trace with nothing but the standard library.

   cc trace_of_c.c -o trace_of_c && ./trace_of_c OUT

   A file of safetensors is the length of a header in 8 bytes, little-endian; the header, JSON; then the arrays. The machine
   that runs this is taken to be little-endian, as nearly all are. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { BATCH = 4, SIZE = 6, STEPS = 12 };
static const double RATE = 0.05;

struct tensor { const char *name; const char *shape; const double *data; int count; };

/* The same numbers as in loop_of_c.py: a linear congruential generator, in [-1, 1). */
static double drawn(uint64_t *state)
{
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return (double)(*state >> 11) / 4503599627370496.0 - 1.0;
}

static void write_step(const char *folder, int step, const struct tensor *tensors, int count)
{
    char header[4096] = "{", path[1024], item[256];
    int offset = 0;
    for (int i = 0; i < count; i++) {
        int end = offset + tensors[i].count * (int)sizeof(double);
        snprintf(item, sizeof item, "%s\"%s\":{\"dtype\":\"F64\",\"shape\":%s,\"data_offsets\":[%d,%d]}",
                 i ? "," : "", tensors[i].name, tensors[i].shape, offset, end);
        strcat(header, item);
        offset = end;
    }
    strcat(header, "}");
    while (strlen(header) % 8) strcat(header, " ");
    uint64_t length = strlen(header);
    snprintf(path, sizeof path, "%s/%06d.safetensors", folder, step);
    FILE *file = fopen(path, "wb");
    if (!file) { perror(path); exit(1); }
    fwrite(&length, sizeof length, 1, file);
    fwrite(header, 1, length, file);
    for (int i = 0; i < count; i++) fwrite(tensors[i].data, sizeof(double), tensors[i].count, file);
    fclose(file);
}

int main(int argc, char **argv)
{
    if (argc != 2) { fprintf(stderr, "needs the new folder OUT\n"); return 2; }
    char path[1024];
    snprintf(path, sizeof path, "%s/trace.jsonl", argv[1]);
    if (mkdir(argv[1], 0777)) { perror(argv[1]); return 1; }
    FILE *lines = fopen(path, "w");
    if (!lines) { perror(path); return 1; }
    fprintf(lines, "{\"format\":\"mnistcheck-trace\",\"version\":1,\"program\":\"C\",\"dtype\":\"float64\"}\n");
    uint64_t state = 1;
    double w[SIZE] = {0};
    for (int step = 0; step < STEPS; step++) {
        double x[BATCH][SIZE], y[BATCH], out[BATCH], error[BATCH], grad[SIZE] = {0}, before[SIZE], loss = 0;
        for (int i = 0; i < BATCH; i++) {
            for (int j = 0; j < SIZE; j++) x[i][j] = drawn(&state);
            y[i] = drawn(&state);
        }
        memcpy(before, w, sizeof w);
        for (int i = 0; i < BATCH; i++) {
            out[i] = 0;
            for (int j = 0; j < SIZE; j++) out[i] += x[i][j] * w[j];
            error[i] = (out[i] - y[i]) / BATCH;
            loss += (out[i] - y[i]) * (out[i] - y[i]) / (2 * BATCH);
            for (int j = 0; j < SIZE; j++) grad[j] += error[i] * x[i][j];
        }
        for (int j = 0; j < SIZE; j++) w[j] -= RATE * grad[j];
        struct tensor shown[] = {
            {"data/x", "[4,6]", &x[0][0], BATCH * SIZE}, {"data/y", "[4]", y, BATCH},
            {"forward/outputs", "[4]", out, BATCH},      {"loss/loss.value", "[]", &loss, 1},
            {"backward/w", "[6]", grad, SIZE},           {"update/param/w", "[6]", w, SIZE},
            {"before/param/w", "[6]", before, SIZE},
        };
        write_step(argv[1], step, shown, 7);
        fprintf(lines, "{\"step\":%d,\"lr\":%.17g,\"file\":\"%06d.safetensors\",\"tensors\":[\"data/x\",\"data/y\","
                "\"forward/outputs\",\"loss/loss.value\",\"backward/w\",\"update/param/w\"]}\n", step, RATE, step);
    }
    return fclose(lines) != 0;
}
