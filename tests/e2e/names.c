/* Has the program that it is preloaded into find one name's address in a file, which a test changes while the program runs:
 * a name server would have to be in /etc/resolv.conf. All other names are resolved as ever.
 *
 *   cc -O1 -shared -fPIC -o names.so names.c -ldl
 *   NAME=receiver.example ADDRESS_FILE=address LD_PRELOAD=./names.so PROGRAM
 *
 * A program in Go asks the C library when it has GODEBUG=netdns=cgo. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef int resolver(const char *, const char *, const struct addrinfo *, struct addrinfo **);

int getaddrinfo(const char *node, const char *service, const struct addrinfo *hints, struct addrinfo **found) {
  const char *name = getenv("NAME"), *path = getenv("ADDRESS_FILE");
  resolver *resolve = (resolver *)dlsym(RTLD_NEXT, "getaddrinfo");
  char address[64];
  if (node && name && path && strcmp(node, name) == 0) {
    FILE *file = fopen(path, "r");
    int read = file && fgets(address, sizeof address, file) != NULL;
    if (file) fclose(file);
    if (!read) return EAI_NONAME;
    node = address;
  }
  return resolve(node, service, hints, found);
}
