package main

import (
	"context"
	"log/slog"
	"time"

	"triptych.dev/gateway/internal/config"
	"triptych.dev/gateway/internal/identity"
	"triptych.dev/gateway/internal/jwks"
)

// acceptTokens has a directory take an issuer's tokens, where there is one.
func acceptTokens(ctx context.Context, settings *config.Settings, directory *identity.Directory, logger *slog.Logger) error {
	if settings.JWTIssuer == "" {
		return nil
	}
	keys, err := jwks.Open(ctx, jwks.Options{
		File: settings.JWKSFile, URL: settings.JWKSURL, Interval: settings.JWKSRefresh, Now: time.Now, Logger: logger,
	})
	if err != nil {
		return err
	}
	directory.AcceptTokens(identity.Tokens{
		Issuer: settings.JWTIssuer, Audience: settings.JWTAudience, Algorithms: jwks.Algorithms, Keys: keys,
		ClockSkew:   settings.JWTClockSkew,
		TenantClaim: settings.JWTTenantClaim, PlanClaim: settings.JWTPlanClaim, ScopesClaim: settings.JWTScopesClaim,
	})
	return nil
}

// checkJWKS finds what is wrong with a file of keys.
func checkJWKS(settings *config.Settings) error {
	if settings.JWKSFile == "" {
		return nil
	}
	return jwks.Check(settings.JWKSFile)
}
